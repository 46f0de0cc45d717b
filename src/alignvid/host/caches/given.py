"""A cache that the loop gives to each forward, one for each pass of guidance: TeaCache of DiffSynth and of OmniGen2.

How the gain acted where it was filled is noted in the cache itself, so that it is gone with it.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from alignvid.host.caches.cache import Samples
from alignvid.models.family import Arguments, OwnCache

_MARK = "_alignvid_samples"
_PASSES_KEPT = 3


class GivenCache:
    """What one transformer's forwards are given."""

    def __init__(self, transformer: nn.Module, own: OwnCache) -> None:
        """Nothing has acted yet."""
        self._transformer, self._own = transformer, own
        self._with_gain: list[dict[str, Any]] = []

    def see(self, arguments: Arguments, samples: Samples) -> bool | None:
        """Before a forward: forget what was computed where the gain acted otherwise.

        Returns: whether it was; None if the cache is off.
        """
        kept = self._own.kept(self._transformer, arguments)
        if kept is None:
            return None
        is_edge = kept.get(_MARK, False) != samples
        kept[_MARK] = samples
        if is_edge:
            self._own.forget(kept)
        self._with_gain = [one for one in self._with_gain if one is not kept]
        if any(samples) if isinstance(samples, list) else samples:
            self._with_gain = [*self._with_gain, kept][-_PASSES_KEPT:]
        return is_edge

    def forget_all(self) -> None:
        """Those in whose last forward a gain acted."""
        for kept in self._with_gain:
            self._own.forget(kept)
            kept[_MARK] = False
        self._with_gain = []
