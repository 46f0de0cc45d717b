"""The gate at a transformer's door: before each forward it asks the clock and switches the effects.

It sits in `__call__`, outside the compiled region, so that a compiled model meets only two values of an input: no
recompilation at a window's edge, no graph break. The transformer's class is swapped for a subclass of the same name;
saving and LoRA loading see no difference. torch.compile's wrapper object gets the same treatment where it is what the
pipeline calls.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from alignvid.attachment.effect import Effect
from alignvid.attachment.placement import Placement
from alignvid.attachment.refusals import foreign_site, refuse_parts, refuse_replaced, warn_of_processor
from alignvid.attachment.swap import base_of, is_swapped, same_named_subclass
from alignvid.host.caches import EdgeWatch
from alignvid.host.clock import StepClock
from alignvid.host.passes import PassReader
from alignvid.host.transformers import Host
from alignvid.modulation import Modulation, Scalar
from alignvid.recipe import Recipe

if TYPE_CHECKING:
    from alignvid.attachment.attachment import Attachment

_ATTRIBUTE = "_alignvid_gate"


class Acting(NamedTuple):
    """How the effects act in the forward that is running."""

    samples: tuple[bool, ...]
    """By sample of the batch, or one value for all."""
    noise_level: float


class Gate:
    """Switches one transformer's effects before each of its forwards."""

    def __init__(
        self,
        host: Host,
        effects: Sequence[Effect],
        placements: Sequence[Placement],
        token_counts: dict[str, int],
        clock: StepClock,
        passes: PassReader,
        recipe: Recipe,
    ) -> None:
        """`token_counts` is the dict that the effects read; it is filled in here, from shapes."""
        self.host = host
        self.effects = effects
        self.clock = clock
        self.passes = passes
        self.recipe = recipe
        self.placements = placements
        self.forward_count = 0
        self.active_forward_count = 0
        self.attachment: Attachment | None = None
        self.acting: Acting | None = None
        self.edges = EdgeWatch(host.transformer)
        self._token_counts = token_counts
        self._needs_token_counts = any(effect.reads_token_counts for effect in effects)
        self._streams = {stream for item in placements for stream, _ in item.powers}
        self._tells_vision = any(_tells_vision(item, recipe.modulation) for item in placements)
        self._locations = [item.location for item in placements]
        self._projections = [location for location in self._locations if location.keys.is_projection]
        self._has_met_tokens = self._has_told_of_none = False
        self._checked_run: int | None = None
        self._foreign = foreign_site(placements)
        self._signature = inspect.signature(type(host.transformer).forward)

    def watch(self, pipeline: Any) -> list[RemovableHandle]:
        """Hooks that tell vision tokens from words; none where both are treated alike."""
        watch = self.host.family.watch
        return watch(pipeline) if watch is not None and self._tells_vision else []

    @torch.compiler.disable
    def open(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Switch the effects for the forward that is about to run with these arguments."""
        arguments = self._signature.bind_partial(None, *args, **kwargs).arguments if args else kwargs
        family = self.host.family
        refuse_parts(self.host, self.recipe.modulation, self.placements)
        refuse_replaced(self._projections)  # at every forward: a LoRA may come at any time
        if family.check is not None:
            family.check(arguments, self._streams)
        noise_level, samples = (0.0, False) if family.prepares(arguments) else self._read(arguments)
        is_acting = any(samples) if isinstance(samples, list) else samples
        which = tuple(samples) if isinstance(samples, list) else (True,)
        self.acting = Acting(which, noise_level) if is_acting else None
        self.edges.see(self.passes.announced, samples if is_acting else False)
        self.forward_count += 1
        self.active_forward_count += is_acting
        # Also when nothing is scaled: compiled code splits the keys at every step, and multiplies by one.
        if self._needs_token_counts and family.token_counts is not None:
            counts = family.token_counts(self.host.transformer, arguments)
            self._token_counts.update({stream: count or 0 for stream, count in counts.items()})
            self._warn_of_mixed_streams(counts)
            self._warn_of_empty_streams()
        for effect in self.effects:
            if samples or effect.is_neutral_in_graph:
                effect.prepare(self.host.transformer, arguments, noise_level)
            effect.set_active(samples) if isinstance(samples, bool) else effect.set_active_samples(samples)

    def _read(self, arguments: Mapping[str, Any]) -> tuple[float, bool | list[bool]]:
        """Noise level of a forward of some step, and which of its samples are acted on."""
        moment = self.clock.read(self.host, arguments)
        if moment.run != self._checked_run:
            self._look_at_all(moment.run)
        samples = self.passes.samples(self.recipe.branch, moment, self.host, arguments)
        if not moment.is_in_window:  # of the same shape as within, so that compiled code sees no difference
            samples = [False] * len(samples) if isinstance(samples, list) else False
        return moment.noise_level, samples

    def _look_at_all(self, run: int) -> None:
        """Once a run, whether the norms are those that were attached to, and the attentions run the same code."""
        refuse_replaced(self._locations)
        foreign = foreign_site(self.placements)
        if foreign and (not self._foreign or foreign.foreign_processor != self._foreign.foreign_processor):
            warn_of_processor(foreign, stacklevel=6)
        self._foreign = foreign
        self._has_met_tokens = False
        self._checked_run = run

    def _warn_of_mixed_streams(self, counts: Mapping[str, int | None]) -> None:
        """Once, where vision is to be told from text and cannot be."""
        if self._tells_vision and counts.get("vision", 0) is None:
            self._tells_vision = False
            warnings.warn(
                "Which tokens of the prompt are a picture's is not known, so that all count as text: the prompt was "
                "encoded before AlignVid was attached, or they lie elsewhere in each prompt of a batch. Attach before "
                "encoding, run prompts one by one, or act on text and vision alike.",
                stacklevel=3,
            )

    def _warn_of_empty_streams(self) -> None:
        """Once, where none of the streams that are acted on has a token; guidance may drop the references in one of its
        later passes.
        """
        if self._has_met_tokens or self._has_told_of_none or not self._streams:
            return
        self._has_met_tokens = any(self._token_counts.get(stream) != 0 for stream in self._streams)
        if not self._has_met_tokens:
            self._has_told_of_none = True
            warnings.warn(
                f"Nothing is modulated: {', '.join(sorted(self._streams))} has no tokens in this call. Give the "
                "pipeline a reference image, or choose other streams.",
                stacklevel=3,
            )


def attachment_of(host: Host) -> Attachment | None:
    """The attachment that a transformer carries."""
    gate = vars(host.transformer).get(_ATTRIBUTE)
    return None if gate is None else gate.attachment


def acting_on(host: Host) -> Acting | None:
    """How a transformer is acted on in the forward that is running, or was last; None if it runs as it is."""
    gate = vars(host.transformer).get(_ATTRIBUTE)
    return None if gate is None else gate.acting


def _tells_vision(placement: Placement, modulation: Modulation) -> bool:
    """Whether it matters which tokens of a prompt are vision."""
    gains = dict(placement.gains)
    are_alike = isinstance(modulation, Scalar) and gains.get("vision") == gains.get("text")
    return "vision" in placement.location.keys.streams and not are_alike


def install_gate(gate: Gate) -> None:
    """Put a gate before a transformer, and before torch.compile's wrapper of it."""
    modules = {id(module): module for module in (gate.host.transformer, gate.host.called)}
    for module in modules.values():
        if not is_swapped(module):  # else somebody's class is over ours, as in effects
            module.__class__ = _gated_class(type(module))  # first: the gated class works without a gate
        object.__setattr__(module, _ATTRIBUTE, gate)


def remove_gate(gate: Gate) -> None:
    """Undo `install_gate`: class and instance are as before."""
    gate.edges.forget_all()
    for module in (gate.host.transformer, gate.host.called):
        if vars(module).get(_ATTRIBUTE) in (gate, None):
            module.__class__ = base_of(type(module))
            vars(module).pop(_ATTRIBUTE, None)


@cache
def _gated_class(base: type[nn.Module]) -> type[nn.Module]:
    @torch.compiler.disable(recursive=False)  # type: ignore[misc]  # this frame runs eagerly; what it calls is compiled
    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        gate = vars(self).get(_ATTRIBUTE)
        if gate is not None:  # None: torch.compile kept this bound method beyond a detach
            gate.open(args, kwargs)
        return base.__call__(self, *args, **kwargs)

    @contextmanager
    def cache_context(self: Any, name: str, **fields: Any) -> Iterator[None]:
        gate = vars(self).get(_ATTRIBUTE)
        if gate is not None:
            gate.passes.announced = name
        try:
            with base.cache_context(self, name, **fields):  # type: ignore[attr-defined]  # tested below
                yield
        finally:
            if gate is not None:
                gate.passes.announced = None

    members = {"__call__": call}
    if hasattr(base, "cache_context"):
        members["cache_context"] = cache_context
    return same_named_subclass(base, members)
