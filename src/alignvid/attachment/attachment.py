"""Attachment: a recipe in force on one pipeline. Made by `alignvid.attach`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any
from weakref import ref

from alignvid.attachment.in_force import InForce
from alignvid.attachment.layout import Layout
from alignvid.attachment.others import TAKEN_OUT
from alignvid.attachment.placement import Placement
from alignvid.attachment.proof import Proof
from alignvid.blocks import BlockSet
from alignvid.errors import AttachmentError, ContractError
from alignvid.host.contract import Contract
from alignvid.modulation import Scalar


class Attachment:
    """What is attached, and how often it has acted. A context manager that detaches on exit; printing it says
    all that it knows.

    Examples:
        >>> with alignvid.attach(pipe, gamma=1.5, blocks=[0, 2]) as attachment:
        ...     frames = pipe(image, "add a green circle at the top left", **size).frames[0]
        >>> attachment.gains
        {'cross.text': 1.5}
        >>> attachment.acted_count == attachment.site_count * attachment.active_forward_count
        True
    """

    def __init__(
        self,
        layout: Layout,
        pipeline: Any,
        levels: Sequence[float] = (),
        passes: Sequence[str] = (),
        *,
        proof: bool,
        contract: Contract,
        attach_again: Callable[[Any], None],
    ) -> None:
        """Prepared, not yet in force; use `alignvid.attach`.

        Args:
            layout: which norms get which gains.
            pipeline: what runs the model, or None for a bare transformer.
            levels: noise level of each step, where the caller of a bare transformer gave the schedule.
            passes: those of a step, where the caller of a bare transformer gave them.
            proof: whether to measure in each run what the gain changes.
            contract: hears where a gain does not act as the recipe says.
            attach_again: attaches to a copy of the pipeline in the same way.
        """
        self.name = layout.name
        self.recipe = layout.recipe
        self._summary = layout.summary
        self._contract = contract
        self._prepared: InForce | None = InForce(
            layout,
            pipeline,
            levels,
            passes,
            proof=proof,
            contract=contract,
            detach=self.detach,
            attach_again=attach_again,
        )
        self._in_force: ref[InForce] | None = None
        self._withdrawn: InForce | None = None
        self._others = ref(self._prepared.others)
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
        in_force, others = self.in_force, self._others()
        self._in_force = self._withdrawn = None
        if in_force is not None:
            problems = in_force.problems()
            in_force.take_off()
            if problems:
                sentences = " ".join(f"AlignVid {self.name} {problem}." for problem in problems)
                self._contract.warn("detached late", sentences)
        elif others is not None and others.is_watching:
            others.detach()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Where a gain did not act as the recipe says, or that could not be known: the last sentence of each kind."""
        return tuple(self._contract.said.values())

    def withdraw(self) -> None:
        """Take the gain off until `put_back`, and keep the counts and the place in the run; twice is fine.

        For a host that lends one model to several users in turn: each has its own attachment, on the model in its own
        forwards alone.
        Raises: AttachmentError if it is detached.
        """
        if (in_force := self.in_force) is None:
            raise AttachmentError(_DETACHED)
        if not in_force.is_withdrawn:
            in_force.withdraw()
            self._withdrawn = in_force

    def put_back(self) -> None:
        """Let the gain act again after `withdraw`; twice is fine.

        Raises: AttachmentError if it is detached, or the model carries another attachment now.
        """
        if (in_force := self.in_force) is None:
            raise AttachmentError(_DETACHED)
        if in_force.is_withdrawn:
            in_force.refuse_another()
            in_force.put_on()
            self._withdrawn = None

    @property
    def in_force(self) -> InForce | None:
        """What is on the model, or waits to be put back; None once it is detached or the model is gone."""
        if self._withdrawn is not None:
            return self._withdrawn
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
        Raises: AttachmentError if the gain was on in no forward yet; or the attachment was detached, or is withdrawn,
        and took no proofs.
        """
        in_force = self.in_force
        measured = [counts.proved for counts in self._counts.values() if counts.proved is not None]
        if not measured and (in_force is None or in_force.is_withdrawn):
            raise AttachmentError(
                f"This attachment is {_state_of(in_force)}: ask for its proof inside the with block, while it is on "
                "the model, or attach with proof=True, which takes one in each run."
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
        return self._summary.site_count

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
        return self._summary.gains

    @property
    def words(self) -> dict[str, dict[str, list[int]]]:
        """Where chosen words were found last: positions of their tokens among those of each text encoder that reaches
        the transformer, such as {"sunglasses": {"text_encoder_2": [5, 6]}}.
        """
        return {word: dict(places) for counts in self._counts.values() for word, places in counts.found.items()}

    @property
    def actions(self) -> list[str]:
        """What happens to each target, such as "cross.text x1.35"."""
        return self._summary.actions

    @property
    def plan(self) -> str:
        """Where, when and how each modulation acts, in words."""
        return self._summary.plan

    def blocks(self, host: str) -> dict[str, str]:
        """Blocks that carry a gain, as ranges by stack, in the transformer of that name."""
        return self._summary.blocks(host)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a record."""
        return {
            **self._summary.to_dict(),
            "forwards": self.forward_count,
            "active_forwards": self.active_forward_count,
            "acted": self.acted_count,
            "warnings": list(self.warnings),
        }

    def __enter__(self) -> Attachment:
        if not self.is_attached:
            raise AttachmentError(_DETACHED)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.detach()
        except ContractError:
            if error is None:  # else that is the one to raise
                raise

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        others = self._others()
        state = _state_of(self.in_force)
        if self.in_force is None and others is not None and others.is_watching:
            state = f"acts no longer: {TAKEN_OUT}"
        words = "".join(f"{_found(word, places)}; " for word, places in self.words.items())
        return (
            f"AlignVid {self.name} ({state}): {self.plan}; {words}{self._shared()}"
            f"acted {self.acted_count} times: {self.site_count} sites in {self.active_forward_count} of "
            f"{self.forward_count} forwards"
        )

    def _shared(self) -> str:
        """What guidance left of gains that share with it, once they have acted."""
        if not self.active_forward_count or not any(
            isinstance(part.modulation, Scalar) and part.modulation.shares_with_guidance for part in self.recipe.parts
        ):
            return ""
        scale = next((counts.guidance for counts in self._counts.values() if counts.guidance is not None), None)
        if scale is None:
            return "scale of guidance not known, each gain as without it; "
        return f"with guidance {scale:g} each gain to the power {1 / scale:.3g}; " if scale > 1.0 else ""


def _state_of(in_force: InForce | None) -> str:
    if in_force is None:
        return "detached"
    return "; ".join(["withdrawn" if in_force.is_withdrawn else "attached", *in_force.problems()])


def _found(word: str, places: Mapping[str, Sequence[int]]) -> str:
    """Such as "'sunglasses' is tokens 5-6 of text_encoder"."""
    where = " and ".join(f"{BlockSet.of(tokens)} of {encoder}" for encoder, tokens in places.items())
    return f"{word!r} is tokens {where}"


_DETACHED = "This attachment was detached; attach again with alignvid.attach(pipe)."
