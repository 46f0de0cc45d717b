"""para-attn's first-block cache: one context at a time for the whole process, made anew at every call of the pipeline.

Where a pipeline runs its passes of guidance in turn, the context has a second ("alter") slot. Without the residual of
the first block it computes everything. Written against para-attn 0.3.38.
"""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

from alignvid.host.caches.cache import Samples, Slots

_MODULE = "para_attn.first_block_cache.utils"
_FIRST_RESIDUAL = "first_hidden_states_residual"


class ParaAttn:
    """The context of the call that is running, as far as it is this transformer's."""

    def __init__(self, transformer: nn.Module) -> None:
        """The context is looked for at each forward."""
        self._transformer = transformer
        self._slots: Slots[bool] = Slots()

    def see(self, pass_name: str | None, samples: Samples) -> None:
        """Which slot is next is read from the context, which takes turns."""
        context = self._context()
        if context is not None:
            is_second = context.enable_alter_cache and not context.is_alter_cache
            if self._slots.differs(is_second, samples):
                _forget(context, is_second)

    def forget_all(self) -> None:
        """Both slots, if they were filled with a gain."""
        context = self._context()
        for is_second in self._slots.clear():
            if context is not None:
                _forget(context, is_second)

    def _context(self) -> Any:
        """None where para-attn was not imported, no call runs, or this transformer is not cached by it."""
        module: Any = sys.modules.get(_MODULE)
        left = vars(self._transformer)
        is_cached = left.get("_is_cached", False) and "_context_manager" not in left  # else by cache-dit
        return module.get_current_cache_context() if module is not None and is_cached else None


def _forget(context: Any, is_second: bool) -> None:
    context.buffers.pop(_FIRST_RESIDUAL + ("_alter" if is_second else ""), None)
    seer = context.alter_taylorseer if is_second else context.taylorseer
    if seer is not None:
        seer.reset_cache()
