"""The gate at a transformer's doors: it puts a Call in force before each forward, and counts what it did.

It sits in `__call__`, outside the compiled region, so that a compiled model meets only two values of an input: no
recompilation at a window's edge, no graph break; and in `forward`, for those who call that directly. The transformer's
class is swapped for a subclass of the same name; saving and LoRA loading see no difference. torch.compile's wrapper
object gets the same treatment where it is what the pipeline calls.

Threads may run one transformer at a time, each with its own Call. Where it is compiled they take turns: a graph reads
its factors from the effects, which are there for all threads.
"""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from alignvid.attachment.call import Acting, Call, running_through
from alignvid.attachment.checkpoints import bind_checkpoints, unbind_checkpoints
from alignvid.attachment.effect import Effect, Installed
from alignvid.attachment.placement import Placement
from alignvid.attachment.refusals import foreign_site, refuse_parts, refuse_replaced, warn_of_processor
from alignvid.attachment.swap import base_of, is_swapped, same_named_subclass
from alignvid.host.caches import EdgeWatch
from alignvid.host.clock import StepClock
from alignvid.host.noise import noise_level_in
from alignvid.host.passes import PassReader, active_samples
from alignvid.host.sites import NormLocation
from alignvid.host.transformers import Host
from alignvid.modulation import Modulation, Scalar
from alignvid.recipe import Recipe

_ATTRIBUTE = "_alignvid_gate"


class Gate:
    """Switches one transformer's effects before each of its forwards."""

    def __init__(
        self,
        host: Host,
        installed: Sequence[Installed],
        placements: Sequence[Placement],
        clock: StepClock,
        passes: PassReader,
        recipe: Recipe,
        name: str,
        detach: Callable[[], None],
    ) -> None:
        """Not yet at its door; see `install_gate`.

        Args:
            host: the transformer.
            installed: the effects on its modules.
            placements: its key norms and their gains; none if the recipe acts on no keys.
            clock: knows the step.
            passes: knows the CFG branch.
            recipe: what is in force.
            name: of the preset, for messages.
            detach: takes the whole attachment off.
        """
        self.host = host
        self.effects: list[Effect] = list({id(item.effect): item.effect for item in installed}.values())
        self.clock = clock
        self.passes = passes
        self.recipe = recipe
        self.name = name
        self.detach = detach
        self.placements = placements
        self.site_count = sum(item.is_counted for item in installed)
        """Attentions that are acted on; or inputs of the transformer, if it is these."""
        self.forward_count = 0
        """Forwards that have begun."""
        self.active_forward_count = 0
        """Forwards in which the gain was on."""
        self.acted_count = 0
        """Times that the keys of an attention were multiplied; see `end`."""
        self.edges = EdgeWatch(host.transformer)
        self._turns, self._counting = threading.RLock(), threading.Lock()
        self._acted_in_run = self._has_warned_of_nothing = False
        self._is_compiled = self._is_compiled_whole = False
        self._compilable = _modules_around([item.location for item in placements])
        self._needs_token_counts = any(effect.reads_token_counts for effect in self.effects)
        self._streams = {stream for item in placements for stream, _ in item.powers}
        self._tells_vision = any(_tells_vision(item, recipe.modulation) for item in placements)
        self._locations = [item.location for item in placements]
        self._projections = [location for location in self._locations if location.keys.is_projection]
        self._has_met_tokens = self._has_told_of_none = False
        self._checked_schedule: int | None = None
        self._foreign = foreign_site(placements)
        self._signature = inspect.signature(type(host.transformer).forward)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_turns", "_counting")}

    def __setstate__(self, fields: dict[str, Any]) -> None:
        vars(self).update(fields)
        self._turns, self._counting = threading.RLock(), threading.Lock()

    def watch(self, pipeline: Any) -> list[RemovableHandle]:
        """Hooks that tell vision tokens from words; none where both are treated alike."""
        watch = self.host.family.watch
        return watch(pipeline) if watch is not None and self._tells_vision else []

    @torch.compiler.disable
    def begin(self, door: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call | None:
        """Put a Call in force for the forward that is about to run with these arguments, until `end` or `abandon`.

        None if the forward that is running in this thread has come through another door and now passes this one.
        """
        outer = running_through(self)
        if outer is not None and outer.passes(door):
            return None
        arguments = self._signature.bind_partial(None, *args, **kwargs).arguments if args else kwargs
        self._note_compiled()
        takes_turn = self._is_compiled
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
        return call

    def _called(self, arguments: Mapping[str, Any]) -> Call:
        family = self.host.family
        refuse_parts(self.host, self.recipe.modulation, self.placements)
        refuse_replaced(self._projections)  # at every forward: a LoRA may come at any time
        if family.check is not None:
            family.check(arguments, self._streams)
        noise_level, samples = (0.0, False) if family.prepares(arguments) else self._read(arguments)
        is_acting = any(samples) if isinstance(samples, list) else samples
        which = tuple(samples) if isinstance(samples, list) else (True,)
        self.edges.see(self.passes.announced, samples if is_acting else False)
        call = Call(
            self, {effect: effect.idle() for effect in self.effects}, Acting(which, noise_level) if is_acting else None
        )
        with self._counting:
            self.forward_count += 1
            self.active_forward_count += is_acting
        call.enter()
        try:
            self._prepare(arguments, noise_level, samples)
        except BaseException:
            call.leave()
            raise
        if torch.is_grad_enabled() and not self._is_compiled_whole:
            bind_checkpoints(self.host.transformer)
        return call

    def _prepare(self, arguments: Mapping[str, Any], noise_level: float, samples: bool | list[bool]) -> None:
        """Tell the effects what they must know of the forward that is in force now."""
        family, counted = self.host.family, {}
        # Also when nothing is scaled: compiled code splits the keys at every step, and multiplies by one.
        if self._needs_token_counts and family.token_counts is not None:
            counts = family.token_counts(self.host.transformer, arguments)
            counted = {stream: count or 0 for stream, count in counts.items()}
            self._warn_of_mixed_streams(counts)
            self._warn_of_empty_streams(counted)
        for effect in self.effects:
            if counted:
                effect.now.set_token_counts(counted)
            if samples or effect.is_neutral_in_graph:
                effect.prepare(self.host.transformer, arguments, noise_level)
            effect.set_active(samples) if isinstance(samples, bool) else effect.set_active_samples(samples)

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
            self.acted_count += call.acted
            self._acted_in_run = self._acted_in_run or call.acted > 0
        if call.acting and not call.is_taken_over and not self._acted_in_run and not self._has_warned_of_nothing:
            self._has_warned_of_nothing = True
            self._warn_of_nothing()

    @torch.compiler.disable
    def abandon(self, call: Call) -> None:
        """Take a Call out of force whose forward failed."""
        self._leave(call)

    def _leave(self, call: Call) -> None:
        call.leave()
        if call.has_turn:
            self._turns.release()

    def _warn_of_nothing(self) -> None:
        warnings.warn(
            f"AlignVid {self.name} was on in a forward of the {self.host.name} and multiplied nothing, for none of the "
            f"{self.site_count} attentions ran the norm of its keys. Likely reasons: the forward was replaced by an "
            "exported or fused one, something else than the pipeline runs the blocks, a kernel reads the norm's weight "
            "in place of calling the norm, or a cache left the blocks out. Detach, restore the model's own forward, "
            "and attach again.",
            stacklevel=4,
        )

    def _read(self, arguments: Mapping[str, Any]) -> tuple[float, bool | list[bool]]:
        """Noise level of a forward of some step, and which of its samples are acted on."""
        family = self.host.family
        moment = self.clock.read(lambda: noise_level_in(family, arguments))
        if self.clock.schedule_count != self._checked_schedule:
            self._look_at_all()
        running = self.passes.read(self.clock.schedule_count, moment.step_index, self.host, arguments)
        samples = active_samples(self.recipe.branch, running, arguments, family.branches(arguments))
        if not moment.is_in_window:  # of the same shape as within, so that compiled code sees no difference
            samples = [False] * len(samples) if isinstance(samples, list) else False
        return moment.noise_level, samples

    def _look_at_all(self) -> None:
        """Once a run, whether the norms are those that were attached to, and the attentions run the same code."""
        refuse_replaced(self._locations)
        foreign = foreign_site(self.placements)
        if foreign and (not self._foreign or foreign.foreign_processor != self._foreign.foreign_processor):
            warn_of_processor(foreign, stacklevel=6)
        self._foreign = foreign
        self._has_met_tokens = self._acted_in_run = self._has_warned_of_nothing = False
        self._checked_schedule = self.clock.schedule_count

    def _note_compiled(self) -> None:
        """Whether graphs read the effects, and whether one holds the whole transformer; both may come at any time."""
        if not self._is_compiled_whole:
            transformer, called = self.host.transformer, self.host.called
            self._is_compiled_whole = called is not transformer or _is_compiled(transformer)
            self._is_compiled = self._is_compiled_whole or any(_is_compiled(module) for module in self._compilable)

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


def gate_of(host: Host) -> Gate | None:
    """The gate of what is attached to a transformer."""
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


def _modules_around(locations: Sequence[NormLocation]) -> list[nn.Module]:
    """The attentions of some norms, and the blocks that hold them: what may be compiled by itself."""
    return list({id(part): part for where in locations for part in (where.block_module, where.attention)}.values())


def _is_compiled(module: nn.Module) -> bool:
    """Whether its forward is a graph of torch.compile, put there by either of two ways."""
    return module._compiled_call_impl is not None or hasattr(vars(module).get("forward"), "_torchdynamo_orig_callable")


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
    unbind_checkpoints(gate.host.transformer)
    for module in (gate.host.transformer, gate.host.called):
        if vars(module).get(_ATTRIBUTE) in (gate, None):
            module.__class__ = base_of(type(module))
            vars(module).pop(_ATTRIBUTE, None)


@torch.compiler.disable(recursive=False)  # type: ignore[misc]  # as the frame that calls it
def _through(
    gate: Any, call: Call, run: Callable[..., Any], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
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
    @torch.compiler.disable(recursive=False)  # type: ignore[misc]  # this frame runs eagerly; what it calls is compiled
    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        gate: Any = vars(self).get(_ATTRIBUTE)
        running = None if gate is None else gate.begin((id(self), "call"), args, kwargs)
        if running is None:  # no gate: torch.compile kept this bound method beyond a detach
            return base.__call__(self, *args, **kwargs)
        return _through(gate, running, base.__call__, self, args, kwargs)

    @wraps(base.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return base.forward(self, *args, **kwargs)
        gate: Any = vars(self).get(_ATTRIBUTE)
        running = None if gate is None else gate.begin((id(self), "forward"), args, kwargs)
        if running is None:
            return base.forward(self, *args, **kwargs)
        return _through(gate, running, base.forward, self, args, kwargs)

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

    members: dict[str, Any] = {"__call__": call, "forward": forward}
    if hasattr(base, "cache_context"):
        members["cache_context"] = cache_context
    return same_named_subclass(base, members)
