"""What must be read from a tensor's values, once for each tensor: reading is a transfer from the device.

Pipelines pass the same tensor of masks, positions or embeddings at every step, so that once is once per run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

T = TypeVar("T")


class PerTensor(Generic[T]):
    """Values by tensor, kept for as long as the tensor lives."""

    def __init__(self) -> None:
        """Nothing is kept yet."""
        self._kept = WeakTensorKeyDictionary()

    def of(self, tensor: Tensor, read: Callable[[], T]) -> T:
        """What was read for this very tensor; read now if it is the first time."""
        if tensor not in self._kept:
            self._kept[tensor] = read()
        return self._kept[tensor]
