"""Where the gain begins or ends to act, and which caches must know."""

from __future__ import annotations

from torch import nn

from alignvid.host.caches.cache import Cache, Samples
from alignvid.host.caches.diffusers import DiffusersHooks


class EdgeWatch:
    """Makes the caches of one transformer forget where the gain begins or ends to act."""

    def __init__(self, transformer: nn.Module) -> None:
        """Nothing acts yet, so what was cached before is without a gain."""
        self._caches: list[Cache] = [DiffusersHooks(transformer)]

    def see(self, pass_name: str | None, samples: Samples) -> None:
        """Note how the gain acts in the forward that is about to run, in the pass of that name."""
        for cache in self._caches:
            cache.see(pass_name, samples)

    def forget_all(self) -> None:
        """Let nothing that was computed with a gain outlive the attachment."""
        for cache in self._caches:
            cache.forget_all()
