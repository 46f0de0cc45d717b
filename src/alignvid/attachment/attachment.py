"""Attachment: a recipe in force on one pipeline. Made by `alignvid.attach`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from torch.utils.hooks import RemovableHandle

from alignvid.attachment.effect import Installed
from alignvid.attachment.effects import effects_of
from alignvid.attachment.gate import Gate, install_gate, remove_gate
from alignvid.attachment.placement import Placement
from alignvid.attachment.swap import install, remove, remove_copies
from alignvid.errors import AttachmentError
from alignvid.host.clock import StepClock
from alignvid.host.passes import PassReader
from alignvid.host.sites import Inserted
from alignvid.host.transformers import Host
from alignvid.recipe import Recipe
from alignvid.schedule import BlockSet


class Attachment:
    """What is attached, and how often it has acted. A context manager that detaches on exit; printing it tells
    everything.
    """

    def __init__(
        self,
        name: str,
        recipe: Recipe,
        hosts: Sequence[Host],
        placements: Mapping[str, Sequence[Placement]],
        pipeline: Any,
    ) -> None:
        """Prepared, not yet in force; use `alignvid.attach`.

        Args:
            name: the preset's name, or words for a recipe without one.
            recipe: what was asked for.
            hosts: the transformers.
            placements: the norms and gains of each host, by its name.
            pipeline: the pipeline, or None for a bare transformer.
        """
        self.name = name
        self.recipe = recipe
        self.placements = {host: tuple(items) for host, items in placements.items()}
        self.is_attached = False
        self._pipeline = pipeline
        clock, passes = StepClock(recipe.steps, pipeline), PassReader(pipeline)
        self._installed: list[Installed] = []
        locations = [item.location for items in self.placements.values() for item in items]
        self._inserted = [Inserted(*where.holder, where.norm) for where in locations if where.is_elsewhere]
        self._gates = [self._gate(host, clock, passes) for host in hosts]
        self._watches: list[RemovableHandle] = []

    def install(self) -> None:
        """Put the gains and gates in force; if anything fails, nothing stays."""
        try:
            for neutral in self._inserted:
                neutral.put_in()
            for installed in self._installed:
                install(installed)
            for gate in self._gates:
                install_gate(gate)
                self._watches += gate.watch(self._pipeline)
            self.is_attached = True
        except BaseException:
            self._remove()
            raise

    def detach(self) -> None:
        """Restore the model; doing it twice is fine.

        Warns if the pipeline has another transformer by now, so that the gain has acted on nothing.
        """
        if self.is_attached:
            self._remove()
            self._warn_of_other_transformers()

    @property
    def forward_count(self) -> int:
        """Transformer forwards seen since attaching."""
        return sum(gate.forward_count for gate in self._gates)

    @property
    def active_forward_count(self) -> int:
        """Transformer forwards in which the gains were switched on."""
        return sum(gate.active_forward_count for gate in self._gates)

    @property
    def site_count(self) -> int:
        """Attentions that are acted on, in all transformers together; or inputs of transformers, if it is these."""
        return sum(self._sites_of(host) for host in self.placements)

    @property
    def acted_count(self) -> int:
        """Times that the keys of an attention were multiplied, counted where it happens.

        Attentions that a cache leaves out do not count, nor does what a checkpoint computes again. Compiled code is not
        looked into: a forward in which it met the gain counts as all of its attentions.
        """
        return sum(gate.acted_count for gate in self._gates)

    @property
    def gains(self) -> dict[str, float]:
        """Factor on the logits of the keys, by target; the largest one where the modulation is not a constant."""
        return {
            f"{item.location.site}.{stream}": gain
            for items in self.placements.values()
            for item in items
            for stream, gain in item.gains
        }

    @property
    def actions(self) -> list[str]:
        """What happens to each target, such as "cross.text x1.35"."""
        powers = {
            f"{item.location.site}.{stream}": power
            for items in self.placements.values()
            for item in items
            for stream, power in item.powers
        }
        words = self.recipe.modulation.words
        return [f"{target} {words(power)}" for target, power in powers.items()] or [words(1.0)]

    def blocks(self, host: str) -> dict[str, str]:
        """Blocks that carry a gain, as ranges by stack, in the transformer of that name."""
        chosen: dict[str, set[int]] = {}
        for item in self.placements[host]:
            chosen.setdefault(item.location.stack, set()).add(item.location.block)
        return {stack: str(BlockSet.of(sorted(blocks))) for stack, blocks in chosen.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a record."""
        return {
            "name": self.name,
            "recipe": self.recipe.to_dict(),
            "blocks": {host: self.blocks(host) for host in self.placements},
            "gains": self.gains,
            "sites": self.site_count,
            "forwards": self.forward_count,
            "active_forwards": self.active_forward_count,
            "acted": self.acted_count,
        }

    def __enter__(self) -> Attachment:
        if not self.is_attached:
            raise AttachmentError("This attachment was detached; attach again with alignvid.attach(pipe).")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.detach()

    def __str__(self) -> str:
        places = "; ".join(
            f"{host} blocks {blocks} of `{stack}`" if stack else f"{host} input"
            for host in self.placements
            for stack, blocks in (self.blocks(host) or {"": ""}).items()
        )
        state = "attached" if self.is_attached else "detached"
        return (
            f"AlignVid {self.name} ({state}): {places}; {self.recipe.steps}; CFG branch {self.recipe.branch}; "
            f"{', '.join(self.actions)}; "
            f"acted {self.acted_count} times: {self.site_count} sites in {self.active_forward_count} of "
            f"{self.forward_count} forwards"
        )

    def _gate(self, host: Host, clock: StepClock, passes: PassReader) -> Gate:
        placements = self.placements[host.name]
        installed = effects_of(self.recipe.modulation, host, placements)
        self._installed.extend(installed)
        return Gate(host, installed, placements, clock, passes, self.recipe, self.name, self.detach)

    def _warn_of_other_transformers(self) -> None:
        """A transformer that was put into the pipeline after attaching (a quantised one, say) carries no gain."""
        for gate in self._gates:
            present = getattr(self._pipeline, gate.host.name, None)
            is_same = getattr(present, "_orig_mod", present) is gate.host.transformer  # torch.compile's wrapper of it
            if self._pipeline is not None and not gate.forward_count and not is_same:
                warnings.warn(
                    f"AlignVid {self.name} has acted on nothing: the pipeline's `{gate.host.name}` is another one than "
                    "when the gain was attached. Attach after putting a transformer into the pipeline.",
                    stacklevel=3,
                )

    def _sites_of(self, host: str) -> int:
        locations = [item.location for item in self.placements[host]]
        attentions = {(location.stack, location.block, location.site) for location in locations}
        return len(attentions) if attentions else 1

    def _remove(self) -> None:
        for gate in self._gates:
            remove_gate(gate)
        for installed in self._installed:
            remove(installed)
        for gate in self._gates:
            remove_copies(gate.host.transformer)
        for neutral in self._inserted:
            neutral.take_out()
        while self._watches:
            self._watches.pop().remove()
        self.is_attached = False
