"""How a proof is taken: a forward is run once more, and each attention in it twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from alignvid.attachment.call import Call
from alignvid.attachment.effect import Installed
from alignvid.attachment.placement import Placement
from alignvid.attachment.proof import SiteChange
from alignvid.attachment.swap import base_of
from alignvid.host.caches import EdgeWatch
from alignvid.host.transformers import Host


class ProbedSite(NamedTuple):
    """A module whose output shows what the gain does, and where it is."""

    name: str
    """Such as "transformer.blocks.3.cross"."""
    module: nn.Module
    writes_to_input: bool = False
    """Whether it changes what it is given in place."""


def plain_forward(transformer: nn.Module) -> Callable[..., Any]:
    """The forward of the model's own class, without a gate; or what was put on the instance."""
    own = vars(transformer).get("forward")
    return base_of(type(transformer)).forward if own is None else lambda _, *args, **kwargs: own(*args, **kwargs)


def probed_sites(host: Host, installed: Sequence[Installed], placements: Sequence[Placement]) -> list[ProbedSite]:
    """The attentions that are acted on; or the modules, if no attention is."""
    if not placements:
        return [ProbedSite(f"{host.name} input", item.module) for item in installed if item.is_counted]
    attentions = {id(item.location.attention): item.location for item in placements}
    return [
        ProbedSite(
            f"{where.host}.{where.stack}.{where.block}.{where.site}",
            where.attention,
            where.attention_site.writes_to_input,
        )
        for where in attentions.values()
    ]


@dataclass
class ActiveForward:
    """A forward in which the gain was on: enough to run it once more."""

    call: Call
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    context: str | None
    """Name of the cache context in which it ran."""
    again: Callable[..., Any] | None
    """Runs it once more, where that is not the transformer's own forward."""


class Prover:
    """Keeps the last forward of one transformer in which the gain was on, and says what the gain changes in it."""

    def __init__(self, host: Host, installed: Sequence[Installed], placements: Sequence[Placement]) -> None:
        """No forward has run. `installed`, `placements`: what is on the transformer, and where."""
        self._transformer = host.transformer
        self._probed = probed_sites(host, installed, placements)
        self._last: ActiveForward | None = None

    def keep(self, forward: ActiveForward | None) -> None:
        """Take that one for the last; None keeps nothing of what was run."""
        self._last = forward

    def take(self, edges: EdgeWatch) -> tuple[list[SiteChange], float] | None:
        """What the gain changes, and the noise level; None if no forward has run. `edges`: of the caches in its way."""
        forward = self._last
        if forward is None or forward.call.acting is None:
            return None
        edges.see(forward.context, True)  # what a cache keeps is of other forwards, or would be of this one
        again = forward.again or plain_forward(self._transformer)
        changes = changes_in(forward, self._transformer, again, self._probed)
        edges.forget_all()
        return [SiteChange(site.name, changes.get(site.name)) for site in self._probed], forward.call.acting.noise_level


@torch.no_grad()
def changes_in(
    forward: ActiveForward, transformer: nn.Module, run: Callable[..., Any], probed: list[ProbedSite]
) -> dict[str, float]:
    """Run a forward once more, and measure the relative change of each probed module's output.

    Args:
        forward: what was run.
        transformer: the model.
        run: its plain forward, behind all gates.
        probed: the modules.
    """
    off = Call(forward.call.gate, {effect: effect.idle() for effect in forward.call.states}, None)
    sums: dict[str, list[float]] = {}
    with ExitStack() as stack:
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        if forward.context is not None:
            stack.enter_context(_context(transformer, forward.context))
        for site in probed:
            hook = _Comparison(site.name, off, sums)
            if site.writes_to_input:
                before = site.module.register_forward_pre_hook(hook.keep, with_kwargs=True, prepend=True)
                stack.callback(before.remove)
            stack.callback(site.module.register_forward_hook(hook, with_kwargs=True).remove)
        forward.call.begin_again()
        stack.enter_context(_in_force(forward.call))
        run(transformer, *forward.args, **forward.kwargs)
    return {
        name: (changed / plain) ** 0.5 if plain else float(changed > 0.0) for name, (changed, plain) in sums.items()
    }


class _Comparison:
    """Runs a module again without the gain, on the same input, and adds up how far apart the outputs are."""

    def __init__(self, name: str, off: Call, sums: dict[str, list[float]]) -> None:
        self.name, self.off, self.sums = name, off, sums
        self._is_comparing = False
        self._kept: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    def keep(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Copy what the module is about to change."""
        if not self._is_comparing:
            self._kept = tuple(map(_copy, args)), {name: _copy(value) for name, value in kwargs.items()}

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if self._is_comparing:
            return
        self._is_comparing = True
        if self._kept is not None:
            (args, kwargs), self._kept = self._kept, None
        try:
            with _in_force(self.off):
                plain = module(*args, **kwargs)
        finally:
            self._is_comparing = False
        totals = self.sums.setdefault(self.name, [0.0, 0.0])
        for with_gain, without in zip(_tensors(output), _tensors(plain), strict=True):
            totals[0] += float((with_gain.double() - without.double()).square().sum())
            totals[1] += float(without.double().square().sum())


@contextmanager
def _in_force(call: Call) -> Iterator[None]:
    before, call.counts_as = call.counts_as, 0
    call.enter()
    try:
        yield
    finally:
        call.leave()
        call.counts_as = before


def _context(transformer: Any, name: str) -> Any:
    return type(transformer).cache_context(transformer, name)


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    return [tensor for part in parts for tensor in _tensors(part)]
