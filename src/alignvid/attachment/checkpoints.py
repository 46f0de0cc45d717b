"""Gradient checkpoints: what is computed again in the backward acts as it did in the forward.

A checkpoint runs a block a second time when its gradient is wanted, long after the forward has ended. So the function
by which a model of diffusers checkpoints its blocks is wrapped: the block runs with the Call of its own forward in
force, both times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from alignvid.attachment.call import Call, running

_FUNCTION = "_gradient_checkpointing_func"


class BoundCheckpoint:
    """A model's own checkpoint function, whose recomputation happens within the Call of the forward."""

    def __init__(self, plain: Callable[..., Any]) -> None:
        """`plain`: takes a block and its arguments, as `enable_gradient_checkpointing()` sets it."""
        self.plain = plain

    @torch.compiler.disable(recursive=False)  # type: ignore[misc]  # what it runs may be compiled
    def __call__(self, block: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The block's output."""
        call = running()
        return self.plain(block if call is None else Recomputed(block, call), *args, **kwargs)


class Recomputed:
    """A block that runs within the Call of its forward, also when that has ended."""

    def __init__(self, block: Callable[..., Any], call: Call) -> None:
        """`call`: of the forward."""
        self.block = block
        self.call = call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The block's output."""
        if running() is self.call:
            return self.block(*args, **kwargs)
        self.call.counts_as = 0
        self.call.enter()
        try:
            return self.block(*args, **kwargs)
        finally:
            self.call.leave()


def bind_checkpoints(transformer: nn.Module) -> None:
    """Let a model's checkpoints remember the Call; those that do already are left alone."""
    for module in transformer.modules():
        plain = vars(module).get(_FUNCTION)
        if plain is not None and not isinstance(plain, BoundCheckpoint):
            object.__setattr__(module, _FUNCTION, BoundCheckpoint(plain))


def unbind_checkpoints(transformer: nn.Module) -> None:
    """Undo `bind_checkpoints`."""
    for module in transformer.modules():
        bound = vars(module).get(_FUNCTION)
        if isinstance(bound, BoundCheckpoint):
            object.__setattr__(module, _FUNCTION, bound.plain)
