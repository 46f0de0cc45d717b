"""A cache that is part of the model itself, as the TeaCache of FramePack's own code: its family says how it forgets."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from alignvid.host.caches.cache import PassSlots, Samples


class FamilyCache:
    """What a family's `forget` empties; whether that is one slot for all passes or one for each is not known."""

    def __init__(self, transformer: nn.Module, forget: Callable[[nn.Module], None]) -> None:
        """`forget` must do nothing where the cache is off."""
        self._transformer = transformer
        self._forget = forget
        self._slots = PassSlots()

    def see(self, pass_name: str | None, samples: Samples) -> None:
        """At the edge of the pass, and also where only the forward of another pass before it differs."""
        if any(self._slots.differ(pass_name, samples)):
            self._forget(self._transformer)

    def forget_all(self) -> None:
        """Only if a gain acted in the last forward of some pass."""
        if self._slots.clear():
            self._forget(self._transformer)
