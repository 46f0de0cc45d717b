"""Attachment: a recipe in force on one pipeline. Made by `alignvid.attach`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple
from weakref import ref

from alignvid.attachment.in_force import InForce
from alignvid.attachment.placement import Placement
from alignvid.attachment.proof import Proof
from alignvid.errors import AttachmentError
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
        placed: Sequence[Mapping[str, Sequence[Placement]]],
        pipeline: Any,
        levels: Sequence[float] = (),
        passes: Sequence[str] = (),
        *,
        proof: bool,
        attach_again: Callable[[Any], None],
    ) -> None:
        """Prepared, not yet in force; use `alignvid.attach`.

        Args:
            name: the preset's name, or words for a recipe without one.
            recipe: what was asked for.
            hosts: the transformers.
            placed: for each modulation of the recipe, the norms and gains of each host, by its name.
            pipeline: what runs the model, or None for a bare transformer.
            levels: noise level of each step, where the caller of a bare transformer gave the schedule.
            passes: those of a step, where the caller of a bare transformer gave them.
            proof: whether to measure in each run what the gain changes.
            attach_again: attaches to a copy of the pipeline in the same way.
        """
        self.name = name
        self.recipe = recipe
        self._prepared: InForce | None = InForce(
            name,
            recipe,
            hosts,
            placed,
            pipeline,
            levels,
            passes,
            proof=proof,
            detach=self.detach,
            attach_again=attach_again,
        )
        self._in_force: ref[InForce] | None = None
        self._places = {host: _Places.of(items) for host, items in self._prepared.placements.items()}
        self._parts = [
            (part, {host: _Places.of(items) for host, items in by_host.items()})
            for part, by_host in zip(recipe.parts, placed, strict=True)
        ]
        self._counts = self._prepared.counts

    def install(self) -> None:
        """Put the gains and gates in force; if anything fails, nothing stays."""
        in_force, self._prepared = self._prepared, None
        if in_force is None:
            raise AttachmentError(_DETACHED)
        in_force.put_on()
        self._in_force = ref(in_force)  # from here on the model holds it

    def detach(self) -> None:
        """Restore the model; doing it twice is fine.

        Warns if the pipeline has another transformer by now, so that the gain has acted on nothing since.
        """
        if (in_force := self.in_force) is not None:
            problems, self._in_force = in_force.problems(), None
            in_force.take_off()
            for problem in problems:
                warnings.warn(f"AlignVid {self.name} {problem}.", stacklevel=2)

    @property
    def in_force(self) -> InForce | None:
        """What is on the model; None once it is detached or the model is gone."""
        return None if self._in_force is None else self._in_force()

    @property
    def is_attached(self) -> bool:
        """Whether a model carries it."""
        return self.in_force is not None

    @property
    def placements(self) -> Mapping[str, Sequence[Placement]]:
        """The norms and gains of each host, by its name; none once it is detached, which keeps no model alive."""
        present = self._prepared or self.in_force
        return {} if present is None else present.placements

    def proof(self) -> Proof:
        """By how much each attention's output is another one because of the gain.

        With `attach(…, proof=True)` it was measured in the first forward of the last run in which the gain was on, and
        is there after detaching, too. Else the last forward in which it was on is run once more, and each attention in
        it twice. Counts are left as they are.
        Raises: AttachmentError if the gain was on in no forward yet; or the attachment was detached and took no proofs.
        """
        in_force = self.in_force
        measured = [counts.proved for counts in self._counts.values() if counts.proved is not None]
        if not measured and in_force is None:
            raise AttachmentError(
                "This attachment was detached: ask for its proof inside the with block, or attach with proof=True, "
                "which takes one in each run."
            )
        measured = measured or ([] if in_force is None else in_force.proofs())
        if not measured:
            raise AttachmentError(
                f"The gain was on in none of {self.forward_count} forwards, so that there is nothing to measure; run "
                "the pipeline first, with a step inside the window."
            )
        sites = tuple(change for changes, _ in measured for change in changes)
        return Proof(sites, max(level for _, level in measured))

    @property
    def forward_count(self) -> int:
        """Transformer forwards seen since attaching."""
        return sum(counts.forwards for counts in self._counts.values())

    @property
    def active_forward_count(self) -> int:
        """Transformer forwards in which the gains were switched on."""
        return sum(counts.active_forwards for counts in self._counts.values())

    @property
    def site_count(self) -> int:
        """Attentions that are acted on, in all transformers together; or inputs of transformers, if it is these."""
        return sum(places.site_count for places in self._places.values())

    @property
    def acted_count(self) -> int:
        """Times that the keys of an attention were multiplied, counted where it happens.

        Attentions that a cache leaves out do not count, nor does what a checkpoint computes again. Compiled code is not
        looked into: a forward in which it met the gain counts as all of its attentions.
        """
        return sum(counts.acted for counts in self._counts.values())

    @property
    def gains(self) -> dict[str, float]:
        """Factor on the logits of the keys, by target; the largest one where the modulation is not a constant, and the
        product where several act.
        """
        gains: dict[str, float] = {}
        for _, by_host in self._parts:
            own = {target: gain for places in by_host.values() for target, gain in places.gains.items()}
            gains |= {target: gains.get(target, 1.0) * gain for target, gain in own.items()}
        return gains

    @property
    def actions(self) -> list[str]:
        """What happens to each target, such as "cross.text x1.35"."""
        return [action for part, by_host in self._parts for action in _actions(part, by_host)]

    def blocks(self, host: str) -> dict[str, str]:
        """Blocks that carry a gain, as ranges by stack, in the transformer of that name."""
        return dict(self._places[host].blocks)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a record."""
        return {
            "name": self.name,
            "recipe": self.recipe.to_dict(),
            "blocks": {host: self.blocks(host) for host in self._places},
            "gains": self.gains,
            "sites": self.site_count,
            "forwards": self.forward_count,
            "active_forwards": self.active_forward_count,
            "acted": self.acted_count,
        }

    def __enter__(self) -> Attachment:
        if not self.is_attached:
            raise AttachmentError(_DETACHED)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.detach()

    def __str__(self) -> str:
        state = "detached" if self.in_force is None else "; ".join(["attached", *self.in_force.problems()])
        return (
            f"AlignVid {self.name} ({state}): {', then '.join(_described(*part) for part in self._parts)}; "
            f"acted {self.acted_count} times: {self.site_count} sites in {self.active_forward_count} of "
            f"{self.forward_count} forwards"
        )


def _actions(part: Recipe, by_host: Mapping[str, _Places]) -> list[str]:
    """What one modulation does to each target."""
    powers = {target: power for places in by_host.values() for target, power in places.powers.items()}
    words = part.modulation.words
    return [f"{target} {words(power)}" for target, power in powers.items()] or [words(1.0)]


def _described(part: Recipe, by_host: Mapping[str, _Places]) -> str:
    """Where, when and how one modulation acts."""
    where = "; ".join(
        f"{host} blocks {blocks} of `{stack}`" if stack else f"{host} input"
        for host, places in by_host.items()
        for stack, blocks in (places.blocks or {"": ""}).items()
    )
    return f"{where}; {part.steps}; CFG branch {part.branch}; {', '.join(_actions(part, by_host))}"


class _Places(NamedTuple):
    """Where one transformer is acted on, without holding it."""

    blocks: Mapping[str, str]
    """Ranges by stack."""
    site_count: int
    gains: Mapping[str, float]
    """By target, as the powers."""
    powers: Mapping[str, float]

    @classmethod
    def of(cls, placements: Sequence[Placement]) -> _Places:
        """What can be said of some placements once the model is gone."""
        chosen: dict[str, set[int]] = {}
        for item in placements:
            chosen.setdefault(item.location.stack, set()).add(item.location.block)
        attentions = {(item.location.stack, item.location.block, item.location.site) for item in placements}
        return cls(
            {stack: str(BlockSet.of(sorted(blocks))) for stack, blocks in chosen.items()},
            len(attentions) if attentions else 1,
            {f"{item.location.site}.{stream}": gain for item in placements for stream, gain in item.gains},
            {f"{item.location.site}.{stream}": power for item in placements for stream, power in item.powers},
        )


_DETACHED = "This attachment was detached; attach again with alignvid.attach(pipe)."
