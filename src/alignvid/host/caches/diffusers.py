"""Caches of diffusers: hooks on the blocks, with states by the name of the cache context.

FirstBlockCache and MagCache remember per CFG pass and only need to forget their residuals. TaylorSeer counts its steps
from where it forgot, so it warms up again. PAB and FasterCache remember one forward for all passes; they count from
where they forgot, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn


class DiffusersHooks:
    """The stateful hooks on one transformer's modules (a duck-typed `diffusers.hooks.HookRegistry` each)."""

    def __init__(self, transformer: nn.Module) -> None:
        """Hooks are looked for at each edge, for they come and go."""
        self._transformer = transformer

    def forget(self, pass_name: str | None, *, of_pass: bool) -> None:
        """States by pass at the edge of that pass, a state for all passes wherever the forward before differs."""
        for hook in _stateful_hooks(self._transformer):
            if of_pass:
                _forget_pass(hook, pass_name)
            if hasattr(hook, "state"):
                _forget_forward(hook)


def _stateful_hooks(transformer: nn.Module) -> Iterator[Any]:
    for module in transformer.modules():
        registry: Any = getattr(module, "_diffusers_hook", None)
        if registry is not None:
            yield from (hook for hook in registry.hooks.values() if hook._is_stateful)


def _forget_pass(hook: Any, pass_name: str | None) -> None:
    """States by pass; a pass without a name may be stored under any."""
    for manager in vars(hook).values():
        states: dict[str, Any] | None = getattr(manager, "_state_cache", None)  # of a StateManager
        if states is not None:
            for name in [pass_name] if pass_name in states else [] if pass_name else list(states):
                _forget(states, name)


def _forget(states: dict[str, Any], name: str | None) -> None:
    state = states[name]  # type: ignore[index]  # a name that is there
    if hasattr(state, "previous_residual"):  # MagCache: its step counter must keep counting, for the ratios are by step
        state.previous_residual = None
    else:
        del states[name]  # type: ignore[arg-type]  # as above


def _forget_forward(hook: Any) -> None:
    """One state for all passes; it computes where its count is a multiple of the range."""
    hook.state.reset()
    if hasattr(hook, "block_skip_range"):
        hook.state.iteration = hook.block_skip_range
