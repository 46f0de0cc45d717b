"""Where the gain begins or ends to act, and which caches must know."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from alignvid.host.caches.cache import Cache, PassCache, PassSlots, Samples
from alignvid.host.caches.cache_dit import CacheDit
from alignvid.host.caches.diffusers import DiffusersHooks
from alignvid.host.caches.family import FamilyCache
from alignvid.host.caches.given import GivenCache
from alignvid.host.caches.para_attn import ParaAttn
from alignvid.models.family import Arguments, OwnCache


class EdgeWatch:
    """Makes the caches of one transformer forget where the gain begins or ends to act.

    What was seen last is kept per transformer and not per thread, because that is where every cache here keeps what it
    computed: diffusers on the hooks of its blocks, by name of the cache context; cache-dit and para-attn in one context
    for all callers. Between threads that take turns on a transformer a cache may hand on a residual, attached or not;
    what is guaranteed is that none is handed from a forward with a gain to one without, or back. `see` and the forward
    after it belong together: nothing else may call `see` or run this transformer in between.
    """

    def __init__(
        self,
        transformer: nn.Module,
        forget: Callable[[nn.Module], None] | None = None,
        own: OwnCache | None = None,
    ) -> None:
        """Nothing acts yet, so what was cached before is without a gain. `forget`, `own`: the family's."""
        self._by_pass: list[PassCache] = [DiffusersHooks(transformer)]
        if forget is not None:
            self._by_pass.append(FamilyCache(transformer, forget))
        self._slots = PassSlots()
        self._of_libraries: list[Cache] = [CacheDit(transformer), ParaAttn(transformer)]
        self._given = None if own is None else GivenCache(transformer, own)
        self._transformer = transformer

    @property
    def is_cached(self) -> bool:
        """Whether a cache is on that says so by what it leaves on the transformer."""
        left = vars(self._transformer)  # not `getattr`: what a module has not, it looks for in four places
        return left.get("_cache_config") is not None or left.get("_context_manager") is not None

    def see(self, pass_name: str | None, samples: Samples, arguments: Arguments | None = None) -> bool:
        """Note how the gain acts in the forward that is about to run, in the pass of that name, with these arguments.

        Returns: whether it acts there otherwise than in the last forward of that pass.
        """
        is_edge, is_other = self._slots.differ(pass_name, samples)
        if is_edge or is_other:
            for cache in self._by_pass:
                cache.forget(pass_name, of_pass=is_edge)
        if self._has_library():
            for library in self._of_libraries:
                library.see(pass_name, samples)
        of_given = None if self._given is None or arguments is None else self._given.see(arguments, samples)
        return is_edge if of_given is None else of_given

    def _has_library(self) -> bool:
        left = vars(self._transformer)
        return "_context_manager" in left or "_is_cached" in left

    def forget_all(self) -> None:
        """Let nothing that was computed with a gain outlive the attachment."""
        if with_gain := self._slots.clear():
            for cache in self._by_pass:
                for pass_name in with_gain:
                    cache.forget(pass_name, of_pass=True)
        for library in self._of_libraries:
            library.forget_all()
        if self._given is not None:
            self._given.forget_all()
