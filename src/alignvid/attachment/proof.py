"""Proof: by how much each attention's output is another one because of the gain, measured in one forward.

That a gain was multiplied does not say that it had an effect: keys of length zero, a stream of one token, or a block
that the rest of the model ignores change nothing. So the last forward in which the gain was on is run once more, and
each attention in it twice, with the gain and without, on the same input:

    change = |with − without| / |without|      (2-norms over the whole output)

That costs about one forward and one more pass through each attention that is acted on, when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from alignvid.attachment.call import Call


class ProbedSite(NamedTuple):
    """A module whose output shows what the gain does, and where it is."""

    name: str
    """Such as "transformer.blocks.3.cross"."""
    module: nn.Module


@dataclass(frozen=True)
class SiteChange:
    """What the gain did to one attention."""

    site: str
    """Such as "transformer.blocks.3.cross"."""
    change: float | None
    """Relative change of its output; None if it did not run in that forward, as where a cache left it out."""


@dataclass(frozen=True)
class Proof:
    """What the gain changed, attention by attention, in one forward of each transformer. Printing it says all."""

    sites: tuple[SiteChange, ...]
    noise_level: float
    """Of that forward, from 1 (pure noise) to 0; the highest, if several transformers were measured."""

    @property
    def changes(self) -> tuple[float, ...]:
        """Relative changes of the attentions that ran."""
        return tuple(site.change for site in self.sites if site.change is not None)

    @property
    def has_changed_anything(self) -> bool:
        """Whether any attention gave another output."""
        return any(change > 0.0 for change in self.changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a record."""
        return {"noise_level": self.noise_level, "sites": [asdict(site) for site in self.sites]}

    def __str__(self) -> str:
        changes = self.changes
        where = f"in one forward at noise level {self.noise_level:.2f}"
        if not self.has_changed_anything:
            return f"AlignVid changed no output of {len(self.sites)} attentions {where} ({len(changes)} of them ran)"
        changed = sum(change > 0.0 for change in changes)
        most = max((site for site in self.sites if site.change is not None), key=lambda site: site.change or 0.0)
        return (
            f"AlignVid changed the output of {changed} of {len(self.sites)} attentions {where}: by "
            f"{min(changes):.2%} to {max(changes):.2%}, median {median(changes):.2%}, most in {most.site}"
        )


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

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if self._is_comparing:
            return
        self._is_comparing = True
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


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    return [tensor for part in parts for tensor in _tensors(part)]
