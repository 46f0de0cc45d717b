"""What an attachment has put on a model. The model holds it, so that it goes when the model goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from torch import nn
from torch.utils.hooks import RemovableHandle

from alignvid.attachment.effect import Installed
from alignvid.attachment.effects import effects_of
from alignvid.attachment.gate import Counts, Gate, install_gate, is_gated, remove_gate
from alignvid.attachment.placement import Placement
from alignvid.attachment.swap import install, remove
from alignvid.host.clock import StepClock
from alignvid.host.passes import PassReader
from alignvid.host.sites import Inserted
from alignvid.host.transformers import Host
from alignvid.recipe import Recipe

if TYPE_CHECKING:
    from alignvid.attachment.attachment import Attachment


class InForce:
    """The gates and effects of one attachment, on the transformers of one pipeline."""

    def __init__(
        self,
        attachment: Attachment,
        recipe: Recipe,
        hosts: Sequence[Host],
        placements: Mapping[str, Sequence[Placement]],
        pipeline: Any,
    ) -> None:
        """Prepared, not yet put on; `pipeline` is None for a bare transformer."""
        self.attachment = attachment
        self.pipeline = pipeline
        self.placements = {host: tuple(items) for host, items in placements.items()}
        clock, passes = StepClock(recipe.steps, pipeline), PassReader(pipeline)
        locations = [item.location for items in self.placements.values() for item in items]
        self._inserted = [Inserted(*where.holder, where.norm) for where in locations if where.is_elsewhere]
        self._gates = [self._gate(recipe, host, clock, passes) for host in hosts]
        self._watches: list[RemovableHandle] = []

    @property
    def counts(self) -> dict[str, Counts]:
        """What is counted, by transformer."""
        return {gate.host.name: gate.counts for gate in self._gates}

    def put_on(self) -> None:
        """Put the gains and gates in force; if anything fails, nothing stays."""
        try:
            for neutral in self._inserted:
                neutral.put_in()
            for gate in self._gates:
                for module, effect in gate.installed:
                    install(module, effect)
            for gate in self._gates:
                gate.in_force = self
                install_gate(gate)
                self._watches += gate.watch(self.pipeline)
            _everywhere.add(self)
        except BaseException:
            self.take_off()
            raise

    def take_off(self) -> None:
        """Restore the model, and let go of it."""
        _everywhere.discard(self)
        for gate in self._gates:
            remove_gate(gate)
            for module, effect in gate.installed:
                remove(module, effect)
        for neutral in self._inserted:
            neutral.take_out()
        while self._watches:
            self._watches.pop().remove()
        self._gates, self._inserted, self.placements, self.pipeline = [], [], {}, None

    def problems(self) -> list[str]:
        """Why forwards of the pipeline may have run without a gain, from what lies in it now."""
        return [problem for gate in self._gates if (problem := self._problem(gate))]

    def _problem(self, gate: Gate) -> str:
        name, done = gate.host.name, "acts no longer" if gate.counts.forwards else "has acted on nothing"
        if not is_gated(gate):
            return f"{done}: another class was given to the {name}, so that nothing switches the gain"
        present = getattr(self.pipeline, name, None)
        was_let_go = present is None and gate.counts.forwards > 0  # to free its memory after a run
        if self.pipeline is None or was_let_go or _holds(present, gate.host.transformer):
            return ""
        return (
            f"{done}: the pipeline's `{name}` is another one than when the gain was attached. Attach after putting a "
            "transformer into the pipeline"
        )

    def _gate(self, recipe: Recipe, host: Host, clock: StepClock, passes: PassReader) -> Gate:
        token_counts: dict[str, int] = {}
        placements = self.placements[host.name]
        installed: list[Installed] = effects_of(recipe.modulation, host, placements, token_counts)
        return Gate(host, installed, placements, token_counts, clock, passes, recipe)


_everywhere: WeakSet[InForce] = WeakSet()


def in_force_for(pipeline: Any) -> list[Attachment]:
    """What was attached through a pipeline and is in force, even if on a transformer that it has no longer."""
    return [item.attachment for item in _everywhere if pipeline is not None and item.pipeline is pipeline]


def _holds(present: Any, transformer: nn.Module) -> bool:
    """Whether what is in the pipeline is the transformer or a wrapper of it, such as torch.compile's."""
    return isinstance(present, nn.Module) and any(module is transformer for module in present.modules())
