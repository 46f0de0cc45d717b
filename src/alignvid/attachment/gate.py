"""The gate at a transformer's doors: it puts a Call in force before each forward, and counts what it did.

It sits in `__call__`, outside the compiled region, so that a compiled model meets only two values of an input: no
recompilation at a window's edge, no graph break; and in `forward`, for those who call that directly. The transformer's
class is swapped for a subclass of the same name; saving and LoRA loading see no difference. torch.compile's wrapper
object gets the same treatment where it is what the pipeline calls.

Threads may run one transformer at a time, each with its own Call. Where it is compiled, or a cache is on, they take
turns: a graph reads its factors from the effects, and a cache keeps its residuals on the model, for all threads.
"""

from __future__ import annotations

import copy
import inspect
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, cast

import torch
from torch import nn
from torch._dynamo.decorators import skip
from torch.utils.hooks import RemovableHandle

from alignvid.attachment.awaited import AwaitedGate
from alignvid.attachment.call import Acting, Call, Edge, running_through
from alignvid.attachment.checkpoints import bind_checkpoints, unbind_checkpoints
from alignvid.attachment.effect import Effect, Installed, Several, together
from alignvid.attachment.forwards import rebind
from alignvid.attachment.placement import Placement
from alignvid.attachment.proof import ActiveForward, ProbedSite, SiteChange, changes_in
from alignvid.attachment.refusals import (
    EXPORT_PROBLEM,
    foreign_site,
    refuse_export,
    refuse_parts,
    refuse_replaced,
    warn_of_processor,
)
from alignvid.attachment.swap import base_of, install, is_installed, is_swapped, same_named_subclass
from alignvid.host.caches import EdgeWatch, Samples, SkipWatch
from alignvid.host.clock import StepClock
from alignvid.host.passes import PassReader, samples_in
from alignvid.host.sites import NormLocation
from alignvid.host.transformers import Host
from alignvid.modulation import Modulation
from alignvid.recipe import Recipe

_ATTRIBUTE = "_alignvid_gate"


@dataclass
class Counts:
    """What a gate has counted. An attachment keeps these alone when it is detached, or its model is gone."""

    forwards: int = 0
    """Forwards that have begun."""
    active_forwards: int = 0
    """Forwards in which the gain was on."""
    acted: int = 0
    """Times that the keys of an attention were multiplied; see `Gate.end`."""
    proved: tuple[list[SiteChange], float] | None = None
    """What a proof found in the last run that was proved, and at which noise level."""


class _Order(threading.local):
    """Which forward of its step one is, as one thread sees it."""

    def __init__(self) -> None:
        self.step: object = None
        self.count = 0

    def of(self, step: object) -> int:
        """0 for the first forward of a step, 1 for the second …"""
        self.count = self.count + 1 if step == self.step else 0
        self.step = step
        return self.count


@dataclass(frozen=True)
class Part:
    """One modulation of a recipe, on one transformer."""

    recipe: Recipe
    """What is in force: one modulation, with its blocks, window and branch."""
    installed: Sequence[Installed]
    """Its effects, each on the module that it is for."""
    placements: Sequence[Placement]
    """Key norms and their gains; none if it acts on no keys."""
    clock: StepClock
    """Knows the step, and whether it lies in the window."""
    passes: PassReader
    """Knows the CFG branch."""

    @property
    def effects(self) -> list[Effect]:
        """Each once."""
        return list({id(item.effect): item.effect for item in self.installed}.values())


class Gate:
    """Switches one transformer's effects before each of its forwards."""

    def __init__(
        self,
        host: Host,
        parts: Sequence[Part],
        recipe: Recipe,
        name: str,
        part_of: Any,
        forget: Callable[[nn.Module], None] | None,
    ) -> None:
        """Not yet at its door; see `install_gate`.

        Args:
            host: the transformer.
            parts: the modulations, in the order in which they act.
            recipe: what is in force.
            name: of the preset, for messages.
            part_of: what has a `detach` for the whole; held, so that the model holds all that is on it.
            forget: empties caches that the loop or the family knows; see `Runner.forget_with`.
        """
        self.host = host
        self.recipe = recipe
        self.name = name
        self.part_of = part_of
        self._parts = [(part, part.effects) for part in parts]
        self.installed = tuple(together([item for part in parts for item in part.installed]))
        self._several = list({item.effect for item in self.installed if isinstance(item.effect, Several)})
        self.effects: list[Effect] = [*(effect for _, effects in self._parts for effect in effects), *self._several]
        placements = [item for part in parts for item in part.placements]
        self.placements = placements
        installed = self.installed
        self.site_count = sum(item.is_counted for item in installed)
        """Attentions that are acted on; or inputs of the transformer, if it is these."""
        self.counts = Counts()
        self.edges = EdgeWatch(host.transformer, forget)
        self._skips, self._order = SkipWatch(), _Order()
        self._has_own_cache = forget is not None
        self._turns, self._counting = threading.RLock(), threading.Lock()
        self._acted_in_run = self._has_warned_of_nothing = False
        self._is_compiled = self._is_compiled_whole = False
        self._probed = _probed_sites(host, installed, placements)
        self._last_active: ActiveForward | None = None
        self.proves_runs = False
        """Whether a proof is taken in the first forward of each run in which the gain is on."""
        self._has_proved_run = False
        self._compilable = _modules_around([item.location for item in placements])
        self._needs_token_counts = any(effect.reads_token_counts for effect in self.effects)
        self._streams = {stream for item in placements for stream, _ in item.powers}
        self._tells_vision = any(
            _tells_vision(item, part.recipe.modulation) for part in parts for item in part.placements
        )
        self._locations = [item.location for item in placements]
        self._projections = [location for location in self._locations if location.keys.is_projection]
        self._has_met_tokens = self._has_told_of_none = False
        self._checked_run: int | None = None
        self._none: list[Samples] = [False] * len(parts)
        self._foreign = foreign_site(placements)
        self._signature = inspect.signature(type(host.transformer).forward)

    def watch(self, pipeline: Any) -> list[RemovableHandle]:
        """Hooks that tell vision tokens from words; none where both are treated alike."""
        return self.host.family.watch(pipeline) if self._tells_vision else []

    @torch.compiler.disable
    def begin(
        self,
        door: object,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        again: Callable[..., Any] | None = None,
    ) -> Call | None:
        """Put a Call in force for the forward that is about to run with these arguments, until `end` or `abandon`.

        `again` runs it once more, behind the door; None where that is the transformer's own forward.
        None if the forward that is running in this thread has come through another door and now passes this one.
        """
        outer = running_through(self)
        if outer is not None and outer.passes(door):
            return None
        arguments = self._signature.bind_partial(None, *args, **kwargs).arguments if args else kwargs
        self._note_compiled()
        takes_turn = self._is_compiled or self.edges.is_cached
        if takes_turn:
            self._turns.acquire()
        try:
            call = self._called(arguments)
        except BaseException:
            if takes_turn:
                self._turns.release()
            raise
        call.has_turn = takes_turn
        call.passes(door)
        if call.acting is not None:
            self._last_active = ActiveForward(call, args, dict(kwargs), self.announced, again)
        return call

    def _called(self, arguments: Mapping[str, Any]) -> Call:
        family = self.host.family
        for part, _ in self._parts:
            refuse_parts(self.host, part.recipe.modulation, part.placements)
        refuse_replaced(self._projections)  # at every forward: a LoRA may come at any time
        family.check(arguments, self._streams)
        is_preparation = family.prepares(arguments)
        run, noise_level, samples = (0, 0.0, self._none) if is_preparation else self._read(arguments)
        is_acting = any(any(chosen) if isinstance(chosen, list) else chosen for chosen in samples)
        is_edge = self.edges.see(self.announced, _as_one(samples) if is_acting else False)
        acting = Acting(_which(samples), noise_level) if is_acting else None
        call = Call(self, {effect: effect.idle() for effect in self.effects}, acting)
        call.is_preparation = is_preparation
        order = self._order.of((run, noise_level))  # passes that nothing announces, such as those of a guider
        call.edge = Edge(run, (self.announced, samples_in(arguments), order), is_edge)
        with self._counting:
            self.counts.forwards += 1
            self.counts.active_forwards += is_acting
        call.enter()
        try:
            self._prepare(arguments, noise_level, samples)
        except BaseException:
            call.leave()
            raise
        if torch.is_grad_enabled() and not self._is_compiled_whole:
            bind_checkpoints(self.host.transformer)
        return call

    def _prepare(self, arguments: Mapping[str, Any], noise_level: float, samples: Sequence[Samples]) -> None:
        """Tell the effects what they must know of the forward that is in force now."""
        family, counted = self.host.family, {}
        # Also when nothing is scaled: compiled code splits the keys at every step, and multiplies by one.
        if self._needs_token_counts:
            counts = family.token_counts(self.host.transformer, arguments)
            counted = {stream: count or 0 for stream, count in counts.items()}
            self._warn_of_mixed_streams(counts)
            self._warn_of_empty_streams(counted)
        for (_, effects), chosen in zip(self._parts, samples, strict=True):
            for effect in effects:
                if counted:
                    effect.now.set_token_counts(counted)
                if chosen or effect.is_neutral_in_graph:
                    effect.prepare(self.host.transformer, arguments, noise_level)
                effect.set_active(chosen) if isinstance(chosen, bool) else effect.set_active_samples(chosen)
        for several in self._several:
            several.follow()

    @torch.compiler.disable
    def end(self, call: Call) -> None:
        """Take a Call out of force, and count what it did.

        Eager code counts each attention whose keys are multiplied. Compiled code cannot without a graph for each
        count: where it met the effects, it has run all of them, and counts as that.
        """
        self._leave(call)
        if call.ran == 0 and any(state.has_run for state in call.states.values()):
            call.ran, call.acted = self.site_count, self.site_count if call.acting else 0
        with self._counting:
            self.counts.acted += call.acted
            self._acted_in_run = self._acted_in_run or call.acted > 0
        if not (call.is_taken_over or call.is_preparation or self._foreign):  # of foreign processors it was warned
            self._warn_of_idleness(call)
        if call.acted and self.proves_runs and not self._has_proved_run:
            self._has_proved_run = True
            self.counts.proved = self.proof()

    def _warn_of_idleness(self, call: Call) -> None:
        """Once a run, where a gain that was on multiplied nothing, or blocks were left out at an edge."""
        may_skip = self.counts.acted > 0 and self._may_be_cached
        if call.acting and not self._acted_in_run and not self._has_warned_of_nothing and not may_skip:
            self._has_warned_of_nothing = True
            self._warn_of_nothing()
            return
        run, kind, is_edge = call.edge
        skipped = self._skips.see(run, kind, self.site_count, call.ran, is_edge=is_edge)
        if skipped is not None:
            warnings.warn(skipped, stacklevel=4)

    def proof(self) -> tuple[list[SiteChange], float] | None:
        """What the gain changes in the last forward in which it was on, and that forward's noise level; None if there
        was none.
        """
        forward = self._last_active
        if forward is None or forward.call.acting is None:
            return None
        with self._turns:
            self.edges.see(forward.context, True)  # what a cache keeps is of other forwards, or would be of this one
            again = forward.again or _plain_forward(self.host.transformer)
            changes = changes_in(forward, self.host.transformer, again, self._probed)
            self.edges.forget_all()
        return [SiteChange(site.name, changes.get(site.name)) for site in self._probed], forward.call.acting.noise_level

    def forget_arguments(self) -> None:
        """Keep nothing of what was run."""
        self._last_active = None

    @torch.compiler.disable
    def abandon(self, call: Call) -> None:
        """Take a Call out of force whose forward failed."""
        self._leave(call)

    def _leave(self, call: Call) -> None:
        call.leave()
        if call.has_turn:
            self._turns.release()

    @property
    def _may_be_cached(self) -> bool:
        """Whether a cache that is known, and forgets where it must, may leave out all blocks of a forward."""
        return self._has_own_cache or self.edges.is_cached

    def _warn_of_nothing(self) -> None:
        warnings.warn(
            f"AlignVid {self.name} was on in a forward of the {self.host.name} and multiplied nothing, for none of the "
            f"{self.site_count} attentions ran the norm of its keys. Likely reasons: the forward was replaced by an "
            "exported or fused one, something else than the pipeline runs the blocks, a kernel reads the norm's weight "
            "in place of calling the norm, or a cache left the blocks out. Detach, restore the model's own forward, "
            "and attach again.",
            stacklevel=5,
        )

    def _read(self, arguments: Mapping[str, Any]) -> tuple[int, float, list[Samples]]:
        """The run and the noise level of a forward of some step, and which of its samples each part acts on."""
        moments = [part.clock.read(self.host, arguments) for part, _ in self._parts]
        if moments[0].source != "stray" and moments[0].run != self._checked_run:
            self._look_at_all(moments[0].run)
        chosen: list[Samples] = []
        for (part, _), moment in zip(self._parts, moments, strict=True):
            samples = part.passes.samples(part.recipe.branch, moment, self.host, arguments)
            if not moment.is_in_window:  # of the same shape as within, so that compiled code sees no difference
                samples = [False] * len(samples) if isinstance(samples, list) else False
            chosen.append(samples)
        return moments[0].run, moments[0].noise_level, chosen

    @property
    def announced(self) -> str | None:
        """Name of the cache context that the pipeline has entered in this thread."""
        return self._parts[0][0].passes.announced

    def announce(self, name: str | None) -> None:
        """Note the cache context that the pipeline enters, or leaves."""
        for part, _ in self._parts:
            part.passes.announced = name

    def _look_at_all(self, run: int) -> None:
        """Once a run, whether the norms are those that were attached to, and the attentions run the same code.

        An effect that others have taken off its norm meanwhile is put back.
        """
        refuse_replaced(self._locations)
        for installed in self.installed:
            if not is_installed(installed):
                install(installed)
        foreign = foreign_site(self.placements)
        if foreign and (not self._foreign or foreign.foreign_processor != self._foreign.foreign_processor):
            warn_of_processor(foreign, stacklevel=6)
        self._foreign = foreign
        self._has_met_tokens = self._acted_in_run = self._has_warned_of_nothing = self._has_proved_run = False
        self._checked_run = run

    def _note_compiled(self) -> None:
        """Whether graphs read the effects, and whether one holds the whole transformer; both may come at any time."""
        if not self._is_compiled_whole:
            transformer, called = self.host.transformer, self.host.called
            self._is_compiled_whole = called is not transformer or _is_compiled(transformer)
            self._is_compiled = self._is_compiled_whole or any(
                module._compiled_call_impl is not None for module in self._compilable
            )

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

    def _warn_of_empty_streams(self, counted: Mapping[str, int]) -> None:
        """Once, where none of the streams that are acted on has a token; guidance may drop the references in one of its
        later passes.
        """
        if self._has_met_tokens or self._has_told_of_none or not self._streams:
            return
        self._has_met_tokens = any(counted.get(stream) != 0 for stream in self._streams)
        if not self._has_met_tokens:
            self._has_told_of_none = True
            warnings.warn(
                f"Nothing is modulated: {', '.join(sorted(self._streams))} has no tokens in this call. Give the "
                "pipeline a reference image, or choose other streams.",
                stacklevel=3,
            )


def gate_of(host: Host) -> Gate | AwaitedGate | None:
    """The gate of what is attached to a transformer, or waits to be."""
    return vars(host.transformer).get(_ATTRIBUTE)


def acting_on(host: Host) -> Acting | None:
    """How a transformer is acted on in the forward that is running in this thread; None if it runs as it is."""
    gate = gate_of(host)
    call = None if gate is None else running_through(gate)
    return None if call is None else call.acting


def take_over(host: Host) -> None:
    """Say that the forward that is running is not made, for an equal one was made earlier with the same gain."""
    gate = gate_of(host)
    if gate is not None and (call := running_through(gate)) is not None:
        call.is_taken_over = True


def _plain_forward(transformer: nn.Module) -> Callable[..., Any]:
    """The forward of the model's own class, without a gate; or what was put on the instance."""
    own = vars(transformer).get("forward")
    return base_of(type(transformer)).forward if own is None else lambda _, *args, **kwargs: own(*args, **kwargs)


def _probed_sites(host: Host, installed: Sequence[Installed], placements: Sequence[Placement]) -> list[ProbedSite]:
    """The attentions that are acted on; or the modules, if no attention is."""
    if not placements:
        return [ProbedSite(f"{host.name} input", item.module) for item in installed if item.is_counted]
    attentions = {id(item.location.attention): item.location for item in placements}
    return [
        ProbedSite(f"{where.host}.{where.stack}.{where.block}.{where.site}", where.attention)
        for where in attentions.values()
    ]


def _as_one(samples: Sequence[Samples]) -> Samples:
    """How all parts act, in a form in which two forwards can be compared."""
    if len(samples) == 1:
        return samples[0]
    return [is_active for chosen in samples for is_active in (chosen if isinstance(chosen, list) else [chosen])]


def _which(samples: Sequence[Samples]) -> tuple[Any, ...]:
    """By sample of the batch, or one value for all; by part, if there are several."""
    by_part = [tuple(chosen) if isinstance(chosen, list) else (chosen,) for chosen in samples]
    return by_part[0] if len(by_part) == 1 else tuple(by_part)


def _modules_around(locations: Sequence[NormLocation]) -> list[nn.Module]:
    """The attentions of some norms, and the blocks that hold them: what may be compiled by itself."""
    return list({id(part): part for where in locations for part in (where.block_module, where.attention)}.values())


def _is_compiled(module: nn.Module) -> bool:
    """Whether its forward is a graph of torch.compile, put there by either of two ways."""
    return module._compiled_call_impl is not None or hasattr(vars(module).get("forward"), "_torchdynamo_orig_callable")


def _tells_vision(placement: Placement, modulation: Modulation) -> bool:
    """Whether it matters which tokens of a prompt are vision."""
    gains = dict(placement.gains)
    are_alike = modulation.is_uniform and gains.get("vision") == gains.get("text")
    return "vision" in placement.location.keys.streams and not are_alike


def install_gate(gate: Gate) -> None:
    """Put a gate before a transformer, and before torch.compile's wrapper of it."""
    modules = {id(module): module for module in (gate.host.transformer, gate.host.called)}
    for module in modules.values():
        if not is_swapped(module):  # else another's class is over ours, as in effects
            gated = _gated_class(type(module))
            rebind(module, type(module).forward, gated.forward)
            module.__class__ = gated  # first: the gated class works without a gate
        object.__setattr__(module, _ATTRIBUTE, gate)


def is_gated(gate: Gate) -> bool:
    """Whether a gate is before its transformer still."""
    return vars(gate.host.transformer).get(_ATTRIBUTE) is gate and is_swapped(gate.host.transformer)


def remove_gate(gate: Gate) -> None:
    """Undo `install_gate`: class and instance are as before."""
    gate.edges.forget_all()
    gate.forget_arguments()
    unbind_checkpoints(gate.host.transformer)
    for module in (gate.host.transformer, gate.host.called):
        if vars(module).get(_ATTRIBUTE) in (gate, None):
            _leave_door(module)


def gate_at(module: nn.Module) -> Any:
    """The gate before a module; a copy's own is put there first. None: torch.compile kept a method beyond a detach."""
    gate = vars(module).get(_ATTRIBUTE)
    if isinstance(gate, AwaitedGate):
        gate.attach()
        gate = vars(module).get(_ATTRIBUTE)
    return gate


def stand_before_copy(copied: nn.Module, awaited: AwaitedGate) -> None:
    """Put a gate before a copy of a transformer that waits for the copy of its pipeline."""
    copied.__class__ = _gated_class(type(copied))
    object.__setattr__(copied, _ATTRIBUTE, awaited)
    awaited.stand_at(copied, _leave_door)


def _leave_door(module: nn.Module) -> None:
    plain = base_of(type(module))
    rebind(module, type(module).forward, plain.forward)
    module.__class__ = plain
    vars(module).pop(_ATTRIBUTE, None)


def _copied(self: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """`copy.deepcopy` of a gated module: the plain model, which is attached again if its pipeline is copied with it."""
    make, args, state = cast(tuple[Any, Any, Any], self.__reduce_ex__(4)[:3])
    memo[id(self)] = copied = make(*args)
    copied.__setstate__(copy.deepcopy(state, memo))
    gate = vars(self).get(_ATTRIBUTE)
    if isinstance(gate, Gate):
        gate.part_of.follow(self, copied, memo)
    return copied


@skip  # as the frame that calls it
def through(
    gate: Any, call: Call, run: Callable[..., Any], module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run what lies behind the door with a Call in force."""
    try:
        output = run(module, *args, **kwargs)
    except BaseException:
        gate.abandon(call)
        raise
    gate.end(call)
    return output


@cache
def _gated_class(base: type[nn.Module]) -> type[nn.Module]:
    @skip  # this frame runs eagerly; what it calls is compiled. `torch.compiler.disable` has no words for torch.export
    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        gate = gate_at(self)
        if gate is not None:
            refuse_export(gate.host)
        running = None if gate is None else gate.begin((id(self), "call"), args, kwargs)
        if running is None:  # no gate: torch.compile kept this bound method beyond a detach
            return base.__call__(self, *args, **kwargs)
        return through(gate, running, base.__call__, self, args, kwargs)

    call._torchdynamo_disable_msg = EXPORT_PROBLEM  # type: ignore[attr-defined]  # torch.export(strict=True) prints it

    @wraps(base.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return base.forward(self, *args, **kwargs)
        gate = gate_at(self)
        outer = None if gate is None else running_through(gate)
        if gate is None or (outer is not None and outer.passes((id(self), "forward"))):
            return base.forward(self, *args, **kwargs)
        running = gate.begin((id(self), "forward"), args, kwargs)
        if running is None:
            return base.forward(self, *args, **kwargs)
        return through(gate, running, base.forward, self, args, kwargs)

    @contextmanager
    def cache_context(self: Any, name: str, **fields: Any) -> Iterator[None]:
        gate = gate_at(self)
        if gate is not None:
            gate.announce(name)
        try:
            with base.cache_context(self, name, **fields):  # type: ignore[attr-defined]  # tested below
                yield
        finally:
            if gate is not None:
                gate.announce(None)

    members: dict[str, Any] = {"__call__": call, "forward": forward, "__deepcopy__": _copied}
    if hasattr(base, "cache_context"):
        members["cache_context"] = cache_context
    return same_named_subclass(base, members, equals_base=True)
