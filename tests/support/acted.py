"""Which samples of which forwards are acted on, seen from outside: what leaves a key norm, and what the norm makes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Seen:
    """One forward of a transformer."""

    arguments: dict[str, Any]
    thread: int
    acted: list[bool] = field(default_factory=list)
    """By sample: whether any of its keys were changed."""


@contextmanager
def acted(transformer: nn.Module) -> Iterator[list[Seen]]:
    """Every forward of a transformer while the context is open, in the order in which they begin."""
    seen: list[Seen] = []
    running: dict[int, Seen] = {}

    def begin(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        running[threading.get_ident()] = Seen(kwargs, threading.get_ident())
        seen.append(running[threading.get_ident()])

    def compare(norm: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
        forward = running[threading.get_ident()]
        difference = (output - normed(norm, args[0])).abs().flatten(1).amax(1)
        changed = (difference > 1e-3 * output.abs().max()).tolist()
        forward.acted = [one or other for one, other in zip(forward.acted or changed, changed, strict=True)]

    hooks = [transformer.register_forward_pre_hook(begin, with_kwargs=True)]
    hooks += [
        module.register_forward_hook(compare)
        for name, module in transformer.named_modules()
        if name.endswith(("norm_k", "norm_added_k"))
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def normed(norm: Any, hidden: Tensor) -> Tensor:
    """Hidden states after a layer norm, which has a bias, or an RMS norm, written out."""
    centred = hidden - hidden.mean(-1, keepdim=True) if isinstance(norm, nn.LayerNorm) else hidden
    plain = centred * torch.rsqrt(centred.pow(2).mean(-1, keepdim=True) + norm.eps)
    weight, bias = getattr(norm, "weight", None), getattr(norm, "bias", None)
    plain = plain if weight is None else plain * weight
    return plain if bias is None else plain + bias
