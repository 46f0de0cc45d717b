"""The gate at a transformer's doors: it puts a Call in force before each forward, and counts what it did.

How it comes to stand there: gated.py.

Threads may run one transformer at the same time, each with its own Call. Where it is compiled, or a cache is on, they
take turns: a graph reads its factors from the effects, and a cache keeps its residuals on the model, for all threads.

All this is Python before and after every forward, run with cold caches: what need not be known is not asked.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from alignvid.attachment.call import Acting, Call, Edge, acting_samples, as_one, first_of, running_through, with_first
from alignvid.attachment.checkpoints import bind_checkpoints
from alignvid.attachment.effect import Several, together
from alignvid.attachment.graphs import Graphs, eager
from alignvid.attachment.idleness import Idleness, attentions
from alignvid.attachment.part import Counts, Order, Part, RunFacts
from alignvid.attachment.preparing import Preparation
from alignvid.attachment.proof import SiteChange
from alignvid.attachment.proving import ActiveForward, Prover
from alignvid.attachment.reading import Reader, Reading
from alignvid.attachment.refusals import foreign_site, refuse_parts, refuse_replaced, refuse_trace, warn_of_processor
from alignvid.attachment.swap import install, is_installed
from alignvid.attachment.turns import Turns
from alignvid.errors import AttachmentError
from alignvid.host.branches import samples_in
from alignvid.host.caches import EdgeWatch
from alignvid.host.contract import Contract
from alignvid.host.parallel import is_context_parallel
from alignvid.host.transformers import Host
from alignvid.recipe import Recipe

_RUNS_KEPT = 16  # as many threads as may take turns on one transformer, each with a run of its own


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
        contract: Contract,
    ) -> None:
        """Not yet at its door; see `install_gate`.

        Args:
            host: the transformer.
            parts: the modulations, in the order in which they act.
            recipe: what is in force.
            name: of the preset, for messages.
            part_of: what has a `detach` for the whole; held, so that the model holds all that is on it.
            forget: empties caches that the loop or the family knows; see `Runner.forget_with`.
            contract: hears where the gain does not act as the recipe says.
        """
        self.host = host
        self.recipe = recipe
        self.name = name
        self.part_of = part_of
        self._contract = contract
        self.parts = tuple(parts)
        self.installed = tuple(together([item for part in parts for item in part.installed]))
        several = list({item.effect for item in self.installed if isinstance(item.effect, Several)})
        self._preparation = Preparation(host, parts, several, contract)
        self.effects = self._preparation.effects
        placements = [item for part in parts for item in part.placements]
        self.placements = placements
        installed = self.installed
        self.site_count = sum(item.is_counted for item in installed)
        """Attentions that are acted on; or inputs of the transformer, if it is these."""
        self.counts = Counts()
        self.edges = EdgeWatch(host.transformer, forget, host.family.reads.cache)
        self._reader, self._order = Reader(host, parts), Order()
        self._has_own_cache = forget is not None or host.family.reads.cache is not None
        self._turns, self._counting = Turns(), threading.Lock()
        self._runs: dict[int, RunFacts] = {}
        has_passes = any(part.clock.pipeline is not None for part in parts)
        names = attentions(installed, placements)
        self._idleness = Idleness(name, host, self.site_count, contract, names, has_passes=has_passes)
        self._prover = Prover(host, installed, placements)
        self.proves_runs = False
        """Whether a proof is taken in the first forward of each run in which the gain is on."""
        self._graphs = Graphs(host, [item.location for item in placements])
        self._twice = [effect for effect in self.effects if effect.runs_twice]
        self.runs_twice = bool(self._twice)
        """Whether a forward may be run a second time, and the outputs combined."""
        self._locations = [item.location for item in placements]
        self._projections = [location for location in self._locations if location.keys.is_projection]
        self._foreign = foreign_site(placements)
        reads = host.family.reads
        self._check, self._warning, self._is_preparation = reads.check, reads.warning, host.family.time.is_preparation
        self._signature = inspect.signature(type(host.transformer).forward)

    def watch(self, pipeline: Any) -> list[RemovableHandle]:
        """Hooks that distinguish vision tokens from words; none where both are treated alike."""
        return self.host.family.watch(pipeline) if self._preparation.streams.distinguishes_vision else []

    @eager
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
        refuse_trace(self.host)
        arguments = self._signature.bind_partial(None, *args, **kwargs).arguments if args else kwargs
        self._turns.begin(self._must_be_alone)
        try:
            call = self._called(arguments)
        except BaseException:
            self._turns.end()
            raise
        call.passes(door)
        if call.acting is not None:
            self._prover.keep(ActiveForward(call, args, dict(kwargs), self.announced, again))
        return call

    def _must_be_alone(self) -> bool:
        """Whether forwards of different threads may not run at the same time."""
        self._graphs.look()
        return self._graphs.is_any or self.edges.is_cached

    def _called(self, arguments: Mapping[str, Any]) -> Call:
        reader, streams = self._reader, self._preparation.streams.streams
        self._refuse(arguments)
        is_preparation = self._is_preparation is not None and self._is_preparation(arguments)
        if is_preparation:
            reading, facts = reader.nothing, self._facts_of(reader.nothing.run)
        else:
            moments = reader.moments(arguments)
            facts = self._facts_of(moments[0].run)
            if not facts.is_looked_at and moments[0].source != "stray":
                self._look_at_all()
                facts.is_looked_at = True
            reading = reader.read(moments, arguments)
        if self._warning is not None and (sentence := self._warning(arguments, streams)):
            self._contract.warn("mixed streams", sentence, once_in=(self.host.name, reading.run))
        call = self._call(reading, facts, arguments)
        call.is_preparation = is_preparation
        call.enter()
        is_on = reading.samples != reader.nothing.samples
        try:
            if is_on or self._preparation.is_always:
                self._preparation.prepare(arguments, reading, facts, self.counts)
                call.is_idle = call.acting is not None and not any(effect.now.is_active for effect in self.effects)
            if torch.is_grad_enabled():
                self._bind_checkpoints()
        except BaseException:
            call.leave()
            raise
        return call

    def _refuse(self, arguments: Mapping[str, Any]) -> None:
        """What cannot be acted on, and may have become so at any time: by a LoRA, or by `enable_parallelism`."""
        if is_context_parallel(self.host.transformer):
            for part in self.parts:
                refuse_parts(self.host, part.recipe.modulation, part.placements)
        if self._projections:
            refuse_replaced(self._projections)
        if self._check is not None:
            self._check(arguments, self._preparation.streams.streams)

    def _call(self, reading: Reading, facts: RunFacts, arguments: Mapping[str, Any]) -> Call:
        """The Call of a forward, not yet in force; it is counted."""
        acting, announced = None, self._reader.announced
        if reading.is_acting:
            acting = Acting(acting_samples(reading.samples), reading.noise_level)
        is_edge = self.edges.see(announced, False if acting is None else as_one(reading.samples), arguments)
        call = Call(self, {effect: effect.idle() for effect in self.effects}, acting)
        call.facts = facts
        call.met = set() if acting is not None and not facts.has_seen_all else None
        order = self._order.of((reading.run, reading.noise_level))  # passes that nothing announces, as a guider's
        call.begins_step = order == 0
        call.edge = Edge(reading.run, (announced, samples_in(arguments), order), is_edge)
        with self._counting:
            self.counts.forwards += 1
            self.counts.active_forwards += acting is not None
        return call

    def _bind_checkpoints(self) -> None:
        self._graphs.look()
        if not self._graphs.is_whole:
            bind_checkpoints(self.host.transformer)

    @eager
    def completed(self, call: Call, output: Any, again: Callable[[], Any]) -> Any:
        """The output of a forward, combined with that of another one without an effect, for those that ask for it."""
        for effect in self._twice:
            if effect.needs_another():
                self._refuse_cache()
                with call.without(effect):
                    plain = again()
                output = with_first(output, effect.combined(first_of(output), first_of(plain)))
        return output

    def _refuse_cache(self) -> None:
        if self._may_be_cached:
            raise AttachmentError(
                f"AlignVid {self.name} runs a forward of the {self.host.name} twice, and a cache of blocks is on, "
                "which would take the second for the first: turn the cache off."
            )

    @eager
    def end(self, call: Call) -> None:
        """Take a Call out of force, and count what it did.

        Eager code counts each attention whose keys are multiplied. Compiled code cannot without a graph for each
        count: where it met the effects, it has run all of them, and counts as that.
        """
        self._leave(call)
        for state in call.states.values():
            if state.has_run:
                self._count_compiled(call)
                break
        facts = call.facts
        if call.acted:
            facts.has_acted = True
            with self._counting:
                self.counts.acted += call.acted
        if not (
            call.is_taken_over or call.is_idle or call.is_preparation or self._foreign
        ):  # of foreign processors it was warned
            self._idleness.see(call, facts, may_skip=self.counts.acted > 0 and self._may_be_cached)
        if call.acted and self.proves_runs and not facts.has_proved:
            facts.has_proved = True
            self.counts.proved = self.proof()

    def _count_compiled(self, call: Call) -> None:
        call.met = None
        if call.ran == 0:
            call.ran, call.acted = self.site_count, self.site_count if call.acting else 0

    def proof(self) -> tuple[list[SiteChange], float] | None:
        """What the gain changes in the last forward in which it was on, and that forward's noise level; None if there
        was none.
        """
        self._turns.begin(self._must_be_alone)
        try:
            return self._prover.take(self.edges)
        finally:
            self._turns.end()

    def idle_attentions(self) -> str:
        """Attentions that did not run in a run of which one step is known; of others it was warned. Empty if none."""
        runs = [facts for facts in self._runs.values() if facts.met and not facts.has_seen_all]
        return next(filter(None, map(self._idleness.sentence_of_idle, runs)), "")

    def forget_arguments(self) -> None:
        """Keep nothing of what was run."""
        self._prover.keep(None)

    @eager
    def abandon(self, call: Call) -> None:
        """Take a Call out of force whose forward failed."""
        self._leave(call)

    def _leave(self, call: Call) -> None:
        call.leave()
        self._turns.end()

    @property
    def _may_be_cached(self) -> bool:
        """Whether a cache that is known, and forgets where it must, may leave out all blocks of a forward."""
        return self._has_own_cache or self.edges.is_cached

    @property
    def announced(self) -> str | None:
        """Name of the cache context that the pipeline has entered in this thread."""
        return self._reader.announced

    def announce(self, name: str | None) -> None:
        """Note the cache context that the pipeline enters, or leaves."""
        self._reader.announce(name)

    def _facts_of(self, run: int) -> RunFacts:
        facts = self._runs.get(run)
        if facts is None:
            with self._counting:
                facts = self._runs.setdefault(run, RunFacts())
                while len(self._runs) > _RUNS_KEPT:
                    del self._runs[next(iter(self._runs))]
        return facts

    def _look_at_all(self) -> None:
        """Once a run, whether the norms are those that were attached to, and the attentions run the same code.

        An effect that others have taken off its norm meanwhile is put back.
        """
        refuse_replaced(self._locations)
        for installed in self.installed:
            if not is_installed(installed):
                install(installed)
        foreign = foreign_site(self.placements)
        if foreign and (not self._foreign or foreign.foreign_processor != self._foreign.foreign_processor):
            warn_of_processor(self._contract, foreign)
        self._foreign = foreign
