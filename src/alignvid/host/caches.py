"""What diffusers' caches remember of earlier steps must not carry a gain over a window's edge.

A cache leaves out work by using what an earlier forward computed. Where that forward was modulated and the running
one is not, or the other way round, the remembered part would be of the wrong kind. So it is forgotten there, and the
next forward computes everything. Nothing else of a cache is touched: within the window and outside it works as ever.

FirstBlockCache and MagCache remember per CFG pass and only need to forget their residuals. TaylorSeer counts its steps
from where it forgot, so it warms up again. PAB and FasterCache remember one forward for all passes; they count from
where they forgot, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diffusers.hooks.hooks import HookRegistry, ModelHook, StateManager
from torch import nn

Samples = bool | list[bool]
"""Whether the gain acts, for all samples of a batch or one by one."""


class EdgeWatch:
    """Makes the caches of one transformer forget where the gain begins or ends to act."""

    def __init__(self, transformer: nn.Module) -> None:
        """Nothing acts yet, so what was cached before is without a gain."""
        self._transformer = transformer
        self._last_by_pass: dict[str | None, Samples] = {}
        self._last: Samples = False

    def see(self, pass_name: str | None, samples: Samples) -> None:
        """Note how the gain acts in the forward that is about to run, in the pass of that name."""
        is_edge = samples != self._last_by_pass.get(pass_name, False)
        is_other_forward = samples != self._last
        self._last_by_pass[pass_name] = self._last = samples
        if is_edge or is_other_forward:
            for hook in _stateful_hooks(self._transformer):
                if is_edge:
                    _forget_pass(hook, pass_name)
                if hasattr(hook, "state"):
                    _forget_forward(hook)

    def forget_all(self) -> None:
        """Let nothing that was computed with a gain outlive the attachment."""
        if any(bool(samples) for samples in (self._last, *self._last_by_pass.values())):
            for hook in _stateful_hooks(self._transformer):
                for name in list(self._last_by_pass):
                    _forget_pass(hook, name)
                if hasattr(hook, "state"):
                    _forget_forward(hook)
        self._last_by_pass, self._last = {}, False


def _stateful_hooks(transformer: nn.Module) -> Iterator[ModelHook]:
    for module in transformer.modules():
        registry: HookRegistry | None = getattr(module, "_diffusers_hook", None)
        if registry is not None:
            yield from (hook for hook in registry.hooks.values() if hook._is_stateful)


def _forget_pass(hook: ModelHook, pass_name: str | None) -> None:
    """States by pass; a pass without a name may be stored under any."""
    for manager in vars(hook).values():
        if isinstance(manager, StateManager):
            states: dict[str, Any] = manager._state_cache
            for name in [pass_name] if pass_name in states else [] if pass_name else list(states):
                _forget(states, name)


def _forget(states: dict[str, Any], name: str | None) -> None:
    state = states[name]  # type: ignore[index]  # a name that is there
    if hasattr(state, "previous_residual"):  # MagCache: its step counter must go on, for the ratios are by step
        state.previous_residual = None
    else:
        del states[name]  # type: ignore[arg-type]  # as above


def _forget_forward(hook: Any) -> None:
    """One state for all passes; it computes where its count is a multiple of the range."""
    hook.state.reset()
    if hasattr(hook, "block_skip_range"):
        hook.state.iteration = hook.block_skip_range
