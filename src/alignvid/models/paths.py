"""Modules by dotted path, and what a message says a model has in place of one that is missing."""

from __future__ import annotations

from typing import Any

from torch import nn

_MOST_NAMES = 12  # in a message


def descend(module: nn.Module, path: str) -> nn.Module | None:
    """The module at a dotted path below another; None if there is none."""
    for name in path.split(".") if path else ():
        module = getattr(module, name, None)  # type: ignore[assignment]  # None ends the walk below
        if module is None:
            return None
    return module


def blocks_of(transformer: nn.Module, stack: str) -> Any:
    """The blocks of a stack by its dotted name; none if the model lacks it."""
    blocks: Any = descend(transformer, stack)
    return () if blocks is None else blocks


def lists_in(transformer: nn.Module) -> str:
    """The lists of blocks that a model has, with their lengths, as words; not those inside blocks, nor those of single
    layers.
    """
    lists = {
        name: len(part)
        for name, part in transformer.named_modules()
        if isinstance(part, nn.ModuleList) and len(part) and len(list(part[0].children())) > 1
    }
    outermost = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    return ", ".join(f"`{name}` ({lists[name]})" for name in outermost[:_MOST_NAMES]) or "none"


def parts_of(module: nn.Module) -> str:
    """The modules that one holds, as words."""
    names = [name for name, _ in module.named_children()]
    return ", ".join(f"`{name}`" for name in names[:_MOST_NAMES]) or "none"
