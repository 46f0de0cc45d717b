"""Whether a transformer, or a part of it that is acted on, is compiled; both may come at any time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn
from torch._C._dynamo.eval_frame import get_eval_frame_callback
from torch._dynamo.decorators import skip

from alignvid.host.sites import NormLocation
from alignvid.host.transformers import Host

Given = ParamSpec("Given")
Made = TypeVar("Made")


def eager(function: Callable[Given, Made]) -> Callable[Given, Made]:
    """A function that is never traced: as `torch.compiler.disable` makes it, whose work before and after each call is
    left out where nothing around it is compiled.
    """
    disabled: Any = torch.compiler.disable(function)

    @wraps(function)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Any:
        is_traced = torch.compiler.is_dynamo_compiling() or get_eval_frame_callback() is not None
        return disabled(*args, **kwargs) if is_traced else function(*args, **kwargs)

    return skip(run)


class Graphs:
    """What of one transformer runs as a graph of torch.compile, and so reads the effects themselves, not a Call."""

    def __init__(self, host: Host, locations: Sequence[NormLocation]) -> None:
        """Not yet looked at; `look` does that."""
        self._host = host
        self._parts = _modules_around(locations)
        self.is_any = self.is_whole = False

    def look(self) -> None:
        """Note whether graphs read the effects, and whether one holds the whole transformer."""
        if not self.is_whole:
            transformer, called = self._host.transformer, self._host.called
            self.is_whole = called is not transformer or _is_compiled(transformer)
            self.is_any = self.is_whole or any([module._compiled_call_impl is not None for module in self._parts])


def _modules_around(locations: Sequence[NormLocation]) -> list[nn.Module]:
    """The attentions of some norms, and the blocks that hold them: what may be compiled by itself."""
    return list({id(part): part for where in locations for part in (where.block_module, where.attention)}.values())


def _is_compiled(module: nn.Module) -> bool:
    """Whether its forward is a graph of torch.compile, put there by either of two ways."""
    return module._compiled_call_impl is not None or hasattr(vars(module).get("forward"), "_torchdynamo_orig_callable")
