"""A bare transformer: a module that its caller runs, step by step and pass by pass."""

from __future__ import annotations

from typing import Any

from torch import nn

from alignvid.host.runner import Runner, nothing_known


def _is_module(model: Any) -> bool:
    return isinstance(model, nn.Module)


def _itself(model: nn.Module) -> dict[str, nn.Module | None]:
    return {"transformer": model}


BARE = Runner("bare transformer", _is_module, _itself, scheduler=nothing_known, passes=(), is_silent=True)
