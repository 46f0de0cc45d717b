"""cache-dit (DBCache, DBPrune, calibrators such as TaylorSeer, computation masks): forgetting is data on its contexts.

`enable_cache` leaves a manager on the transformer and the names of its contexts, one per list of blocks; Wan 2.2's two
experts share the manager, each with contexts of its own. A context is made anew at every call of the pipeline, so
nothing that is changed here outlives the run and there is nothing to put back. Written against cache-dit 1.5.3.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from torch import nn

from alignvid.host.caches.cache import Samples, Slots


class CacheDit:
    """The contexts of one transformer, each with one slot, or two where it keeps the passes of guidance apart."""

    def __init__(self, transformer: nn.Module) -> None:
        """Contexts are looked for at each forward, for they come and go."""
        self._transformer = transformer
        self._slots: Slots[tuple[str, bool]] = Slots()

    def see(self, pass_name: str | None, samples: Samples) -> None:
        """Which pass is next is read from the context, which counts: the order is its own, whatever names it."""
        for manager, context in self._contexts():
            is_fresh, _ = manager.maybe_refresh(context)  # a fresh one takes its place, and has nothing to forget
            step = 0 if is_fresh else context.transformer_executed_steps
            slot = (context.name, _is_unconditional(context, step))
            if self._slots.differs(slot, samples) and not is_fresh:
                _forget(context, step)

    def forget_all(self) -> None:
        """The next forward of each slot computes everything."""
        with_gain = self._slots.clear()
        for _, context in self._contexts():
            step = context.transformer_executed_steps
            for later in (step, step + 1) if context.cache_config.enable_separate_cfg else (step,):
                if (context.name, _is_unconditional(context, later)) in with_gain:
                    _forget(context, later)

    def _contexts(self) -> Iterator[tuple[Any, Any]]:
        """Pairs of a manager and a context that exists: none outside a call of the pipeline that was cached."""
        left = vars(self._transformer)
        manager = left.get("_context_manager")
        if manager is not None:
            existing = manager._cached_context_manager
            yield from ((manager, existing[name]) for name in left.get("_context_names", ()) if name in existing)


def _is_unconditional(context: Any, step: int) -> bool:
    """Whether a forward of the transformer, counted from 0, falls into the second slot."""
    config = context.cache_config
    return bool(config.enable_separate_cfg) and step % 2 == (0 if config.cfg_compute_first else 1)


def _forget(context: Any, step: int) -> None:
    """Empty the slot of a forward that is still to come, so that it computes everything."""
    is_unconditional = _is_unconditional(context, step)
    for name in [name for name in context.buffers if name.endswith("_cfg") == is_unconditional]:
        context.remove_buffer(name)
    for calibrator in context.get_cfg_calibrators() if is_unconditional else context.get_calibrators():
        if calibrator is not None:
            calibrator.reset_cache()
    if context.cache_config.steps_computation_mask is not None:  # it may decide alone, whatever is kept
        index = step // 2 if context.cache_config.enable_separate_cfg else step
        context.cache_config = _computing(context.cache_config, index)


def _computing(config: Any, index: int) -> Any:
    """A copy, for requests share the config, that computes this step; steps beyond the mask are cached ones."""
    config = copy.copy(config)
    mask = config.steps_computation_mask
    padded = [*mask, *[0] * (index + 1 - len(mask))]
    config.steps_computation_mask = [*padded[:index], 1, *padded[index + 1 :]]
    return config
