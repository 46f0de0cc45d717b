"""What an attachment has put on a model. The model holds it, so that it goes when the model goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from weakref import WeakSet

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from alignvid.attachment.awaited import AwaitedGate
from alignvid.attachment.doors import OpenDoor, close_door
from alignvid.attachment.effects import effects_of
from alignvid.attachment.gate import Gate
from alignvid.attachment.gated import (
    install_gate,
    is_gated,
    refuse_attached,
    remove_gate,
    stand_before_copy,
    withdraw_gate,
)
from alignvid.attachment.layout import Layout
from alignvid.attachment.others import Others, holds
from alignvid.attachment.part import Counts, Part
from alignvid.attachment.placement import Placement
from alignvid.attachment.proof import SiteChange
from alignvid.attachment.swap import install, remove
from alignvid.host.clock import StepClock
from alignvid.host.contract import Contract
from alignvid.host.passes import PassReader
from alignvid.host.registry import runner_of
from alignvid.host.sites import Inserted
from alignvid.host.transformers import Host
from alignvid.models.reading.prompts import watch_prompts


class InForce:
    """The gates and effects of one attachment, on the transformers of one pipeline."""

    def __init__(
        self,
        layout: Layout,
        pipeline: Any,
        levels: Sequence[float],
        passes: Sequence[str],
        *,
        proof: bool,
        contract: Contract,
        detach: Callable[[], None],
        attach_again: Callable[[Any], None],
    ) -> None:
        """Prepared, not yet put on.

        Args:
            layout: what is to be in force.
            pipeline: what runs the model, or None for a bare transformer.
            levels: noise level of each step, where the caller of a bare transformer gave the schedule.
            passes: those of a step, where the caller of a bare transformer gave them.
            proof: whether to measure in each run what the gain changes.
            contract: hears where a gain does not act as the recipe says.
            detach: takes all of it off, and warns of what went wrong.
            attach_again: attaches to a copy of the pipeline in the same way.
        """
        self.name = layout.name
        self.detach = detach
        self.recipe = layout.recipe
        self._contract = contract
        self._attach_again = attach_again
        self.pipeline, self._runner = pipeline, runner_of(pipeline)
        acted_on = {host.name: host.transformer for host in layout.hosts}
        self.others = Others(self.name, pipeline, self._runner, acted_on, contract)
        door = self._runner.door
        self._door = None if door is None else OpenDoor(pipeline, self._runner, door, self.others.meet)
        self.placed = [{host: tuple(items) for host, items in by_host.items()} for by_host in layout.placed]
        self._readers = [
            (StepClock(part.steps, pipeline, levels, contract), PassReader(pipeline, passes, contract))
            for part in self.recipe.parts
        ]
        locations = [item.location for item in layout.placements]
        missing = {id(where.norm): where for where in locations if where.is_elsewhere}
        self._inserted = [Inserted(*where.holder, where.norm) for where in missing.values()]
        with torch.inference_mode(False):  # a gradient may need what the effects hold, though they are made within it
            self._gates = [self._gate(host, proof) for host in layout.hosts]
        self._watches: list[RemovableHandle] = []
        self.is_withdrawn = False
        """Whether the model is as it was, until `put_on`."""

    @property
    def placements(self) -> dict[str, tuple[Placement, ...]]:
        """The norms and gains of each transformer, of all modulations."""
        hosts = dict.fromkeys(host for by_host in self.placed for host in by_host)
        return {host: tuple(item for by_host in self.placed for item in by_host.get(host, ())) for host in hosts}

    @property
    def counts(self) -> dict[str, Counts]:
        """What is counted, by transformer."""
        return {gate.host.name: gate.counts for gate in self._gates}

    def put_on(self) -> None:
        """Put the gains and gates in force; if anything fails, nothing stays."""
        self.is_withdrawn = False
        for effect in {id(effect): effect for gate in self._gates for effect in gate.effects}.values():
            effect.learn(self.pipeline)
        try:
            for neutral in self._inserted:
                neutral.put_in()
            for gate in self._gates:
                for installed in gate.installed:
                    install(installed)
            for gate in self._gates:
                install_gate(gate)
                self._watches += gate.watch(self.pipeline)
            if any(part.reads_prompts for gate in self._gates for part in gate.parts):
                self._watches += watch_prompts(self.pipeline)
            if self._door is not None:
                self._door.put_on()
            if not self.others.is_watching:
                self.others.watch()
            _everywhere.add(self)
        except BaseException:
            self.take_off()
            raise

    def take_off(self) -> None:
        """Restore the model, and let go of it."""
        self._leave(remove_gate)
        self.others.leave()
        for clock, passes in self._readers:
            clock.forget()
            passes.forget()
        self._gates, self._inserted, self.placed, self.pipeline, self._door = [], [], [], None, None

    def withdraw(self) -> None:
        """Restore the model, and keep counts and what is known of the running forwards, until `put_on`."""
        self._leave(withdraw_gate)
        self.is_withdrawn = True

    def refuse_another(self) -> None:
        """Raises: AttachmentError if a transformer carries another attachment."""
        refuse_attached([gate.host for gate in self._gates])

    def _leave(self, leave_gate: Callable[[Gate], None]) -> None:
        _everywhere.discard(self)
        if self.is_withdrawn:  # what is on the model now is another's
            return
        if self._door is not None:
            close_door(self.pipeline, self._door.door.attribute)
        for gate in self._gates:
            leave_gate(gate)
            for installed in gate.installed:
                remove(installed)
        for neutral in self._inserted:
            neutral.take_out()
        while self._watches:
            self._watches.pop().remove()

    def follow(self, original: nn.Module, copied: nn.Module, memo: dict[int, Any]) -> None:
        """Wait to be attached to a copy of a transformer, if the pipeline is being copied with it."""
        pipeline = None if self.pipeline is None else memo.get(id(self.pipeline))
        if pipeline is None or all(gate.host.transformer is not original for gate in self._gates):
            return
        key = id(pipeline)
        if key not in memo.setdefault(id(self), {}):
            ids = [watch.id for watch in self._watches]
            awaited = AwaitedGate(self.name, self.recipe, pipeline, ids, self._attach_again)
            memo[id(self)][key] = awaited
            if (door := self._runner.door) is not None:
                awaited.stand_at(pipeline, partial(close_door, attribute=door.attribute))
        stand_before_copy(copied, memo[id(self)][key])

    def problems(self) -> list[str]:
        """Why forwards of the pipeline may have run without a gain, from what lies in it now."""
        return [] if self.is_withdrawn else [problem for gate in self._gates if (problem := self._problem(gate))]

    def _problem(self, gate: Gate) -> str:
        name, done = gate.host.name, "acts no longer" if gate.counts.forwards else "has acted on nothing"
        if not is_gated(gate):
            return f"{done}: another class was given to the {name}, so that nothing switches the gain"
        present = getattr(self.pipeline, name, None)
        was_let_go = present is None and gate.counts.forwards > 0  # to free its memory after a run
        if self.pipeline is None or was_let_go or holds(present, gate.host.transformer):
            return f"acts in part: {idle}" if (idle := gate.idle_attentions()) else ""
        return (
            f"{done}: the pipeline's `{name}` is another one than when the gain was attached. Attach after putting a "
            "transformer into the pipeline"
        )

    def proofs(self) -> list[tuple[list[SiteChange], float]]:
        """What the gain changes in each transformer's last forward in which it was on, and at which noise level."""
        return [found for gate in self._gates if (found := gate.proof()) is not None]

    def _gate(self, host: Host, proof: bool) -> Gate:
        parts = [
            Part(part, effects_of(part.modulation, host, by_host[host.name]), by_host[host.name], clock, passes)
            for part, by_host, (clock, passes) in zip(self.recipe.parts, self.placed, self._readers, strict=True)
            if host.name in by_host
        ]
        forget = self._runner.forget_with(self.pipeline, host.family.reads.forget)
        gate = Gate(host, parts, self.recipe, self.name, self, forget, self._contract)
        gate.proves_runs = proof
        return gate


_everywhere: WeakSet[InForce] = WeakSet()


def in_force_for(pipeline: Any) -> list[InForce]:
    """What was attached through a pipeline and is in force, even if on a transformer that it has no longer."""
    return [item for item in _everywhere if pipeline is not None and item.pipeline is pipeline]
