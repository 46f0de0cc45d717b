"""Which text belongs to which pass of guidance, learned from the first step of a run.

A pass is given the same tensors in every step, so that their place in memory recognises it without a transfer. Only
where a text lies elsewhere it is compared by value with those that are known, once.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

_MOST_KEPT = 8
"""Texts of a run that are kept: those of its passes, and of parts of their batches."""


class Texts:
    """The texts of one run, each with its branch; None where two passes share it, so that it distinguishes nothing."""

    def __init__(self) -> None:
        """Nothing is learned yet."""
        self._kept: dict[Hashable, tuple[Any, str | None]] = {}  # the text too, so that its memory is not used again

    def learn(self, text: Any, branch: str) -> None:
        """Note that the pass of this branch is given this text."""
        if (identity := identity_of(text)) is None:
            return
        known = self._kept.pop(identity, None)
        self._kept[identity] = (text, branch if known is None or known[1] == branch else None)
        while len(self._kept) > _MOST_KEPT:
            del self._kept[next(iter(self._kept))]

    def branch_of(self, text: Any) -> str | None:
        """The branch that this text belongs to; None if it is not known, or is that of several."""
        if (identity := identity_of(text)) is None:
            return None
        if identity in self._kept:
            return self._kept[identity][1]
        branches = {branch for kept, branch in self._kept.values() if is_equal(kept, text)}
        branch = branches.pop() if len(branches) == 1 else None
        if branch is not None:
            self.learn(text, branch)
        return branch

    def is_shared(self, text: Any) -> bool:
        """Whether several passes are given this text."""
        return self._kept.get(identity_of(text), (None, ""))[1] is None


def identity_of(text: Any) -> Hashable:
    """Where a text lies in memory, and how often it was changed; None for what is no tensor, nor a list of them."""
    if isinstance(text, Tensor):
        version = 0 if text.is_inference() else text._version
        return text.data_ptr(), tuple(text.shape), text.stride(), version
    if isinstance(text, list | tuple):
        parts = tuple(identity_of(part) for part in text)
        return None if not parts or None in parts else parts
    return None


def is_equal(one: Any, other: Any) -> bool:
    """Whether two texts are equal, bit by bit."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        are_alike = one.shape == other.shape and one.dtype == other.dtype and one.device == other.device
        return are_alike and torch.equal(one, other)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(is_equal(*pair) for pair in zip(one, other, strict=True))
    return False


def parts_of(text: Any, count: int) -> Sequence[Any]:
    """A text of a batch, cut into those of its branches; none if it cannot be cut."""
    if not isinstance(text, Tensor | list | tuple) or len(text) % count:
        return []
    size = len(text) // count
    return [text[part * size : (part + 1) * size] for part in range(count)]
