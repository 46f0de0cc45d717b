"""A cache that is part of the model itself, as the TeaCache of FramePack's own code: its family says how it forgets."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


class FamilyCache:
    """What a family's `forget` empties; whether that is one slot for all passes or one for each is not known."""

    def __init__(self, transformer: nn.Module, forget: Callable[[nn.Module], None]) -> None:
        """`forget` must do nothing where the cache is off."""
        self._transformer = transformer
        self._forget = forget

    def forget(self, pass_name: str | None, *, of_pass: bool) -> None:
        """Also where only the forward of another pass before it differs."""
        self._forget(self._transformer)
