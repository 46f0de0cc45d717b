"""What every cache must be able to do: forget where the gain begins or ends to act."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

Samples = bool | list[bool]
"""Whether the gain acts, for all samples of a batch or one by one."""

Slot = TypeVar("Slot", bound=Hashable)


class Cache(Protocol):
    """What one library keeps of the earlier forwards of one transformer; it may be absent, or come and go."""

    def see(self, pass_name: str | None, samples: Samples) -> None:
        """Before a forward: forget what it would use that was computed where the gain acted otherwise.

        `pass_name`: pass of guidance, where something names it.
        """
        ...

    def forget_all(self) -> None:
        """Forget whatever was computed with a gain."""
        ...


class PassCache(Protocol):
    """A cache of which only this is known: it has a slot for each pass, or one for all of them; see `PassSlots`."""

    def forget(self, pass_name: str | None, *, of_pass: bool) -> None:
        """Before a forward of that pass: forget what one slot for all passes holds; and the pass's own, if `of_pass`.

        Must do nothing where the cache is off.
        """
        ...


class Slots(Generic[Slot]):
    """How the gain acted where each slot of a cache was filled; a slot never seen was filled without one.

    A cache that skips leaves its slot as it is. That does not matter here: where the gain acts otherwise the slot is
    emptied and filled again, so what it holds is always of the kind seen last.
    """

    def __init__(self) -> None:
        """Nothing has acted yet."""
        self._samples: dict[Slot, Samples] = {}

    def differs(self, slot: Slot, samples: Samples) -> bool:
        """Whether a slot was filled where the gain acted otherwise; from now on it is filled so."""
        before = self._samples.get(slot, False)
        self._samples[slot] = samples
        return samples != before

    def clear(self) -> list[Slot]:
        """Begin anew; the slots that were filled with a gain."""
        filled, self._samples = self._samples, {}
        return [slot for slot, samples in filled.items() if (any(samples) if isinstance(samples, list) else samples)]


class PassSlots:
    """Slots of caches of which only this is known: they have one for each pass, or one for all of them."""

    def __init__(self) -> None:
        """Nothing has acted yet."""
        self._by_pass: Slots[str | None] = Slots()
        self._last: Samples = False

    def differ(self, pass_name: str | None, samples: Samples) -> tuple[bool, bool]:
        """Whether the pass's own slot, and the one for all passes, were filled where the gain acted otherwise."""
        before, self._last = self._last, samples
        return self._by_pass.differs(pass_name, samples), samples != before

    def clear(self) -> list[str | None]:
        """Begin anew; the passes whose slots were filled with a gain."""
        self._last = False
        return self._by_pass.clear()
