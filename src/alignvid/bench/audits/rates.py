"""The errors of a judge on clips whose truth is known: rates, their intervals over scenes, and what P(yes) is worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from alignvid.bench.audits.exact import HALF, SHOWINGS, ExactSample, Showing
from alignvid.bench.records import AnswerRecord, VideoRecord
from alignvid.bench.scoring.statistics import DIFFERENCE_OF_SHARES, SHARE, Estimate, estimate
from alignvid.bench.verdicts import Verdict

BINS = 5
"""Of P(yes), of equal width."""
_DECIMALS = 12  # sums in another order differ in the last digits; equal scenes are equal


@dataclass(frozen=True)
class KnownAnswer:
    """One answer, and the truth."""

    sample: str
    showing: Showing
    is_denial: bool
    truth: bool | None
    """None for half an edit."""
    verdict: Verdict
    p_yes: float | None

    @property
    def says_yes(self) -> bool:
        """Whether the judge said yes; an answer that cannot be read is no yes."""
        return self.verdict is Verdict.YES

    @property
    def is_right(self) -> bool:
        """Whether it said what is true; an answer that cannot be read is not right."""
        return self.verdict is (Verdict.YES if self.truth else Verdict.NO)


@dataclass(frozen=True)
class Bin:
    """Answers of a like P(yes)."""

    low: float
    high: float
    mean_p_yes: float
    true_share: float
    """Share of questions whose answer is yes; where the judge is calibrated it is the mean P(yes)."""
    n: int


@dataclass(frozen=True)
class Rates:
    """What an exact audit says of a judge. Estimates are over scenes, each of which is drawn whole."""

    answers: int
    """With a truth, and a verdict or UNPARSED."""
    unparsed: int
    failed: int
    hits: int
    """True things that it says yes to."""
    misses: int
    """… no to."""
    false_alarms: int
    """False things that it says yes to."""
    rejections: int
    """… no to."""
    sensitivity: Estimate
    """Share of true things that it says yes to."""
    specificity: Estimate
    """Share of false things that it says no to."""
    yes_bias: Estimate
    """Its rate of yes less that of the truth, which is one half."""
    denial_bias: Estimate
    """Its accuracy on denials less that on claims."""
    accuracy: Mapping[str, Estimate]
    """By showing."""
    half_shown_yes: Estimate
    """Share of claims about half an edit that it says yes to; there is no right share."""
    brier: Estimate | None
    """Mean squared error of P(yes); None for a judge that gives none. 0.25 is what 0.5 to everything has."""
    bins: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def with_truth(
    samples: Sequence[ExactSample], videos: Iterable[VideoRecord], answers: Iterable[AnswerRecord]
) -> list[KnownAnswer]:
    """The answers with the truth of each, of the clips that are there."""
    by_id = {item.sample.id: item for item in samples}
    showings: dict[str, Showing] = {name: name for name in SHOWINGS}
    clips: dict[str, tuple[ExactSample, Showing]] = {
        row.job: (by_id[row.sample], showings[row.variant]) for row in videos if row.sample in by_id
    }
    found = []
    for row in answers:
        if row.job in clips:
            item, showing = clips[row.job]
            question = next((one for one in item.sample.questions if one.id == row.question), None)
            if question is not None:
                is_denial, truth = question.category == "denial", item.truth(showing, question)
                found.append(KnownAnswer(item.sample.id, showing, is_denial, truth, row.verdict, row.p_yes))
    return found


def rates(answers: Sequence[KnownAnswer]) -> Rates:
    """Rates of the answers of one judge."""
    read = [one for one in answers if one.verdict is not Verdict.FAILED]
    known = [one for one in read if one.truth is not None]
    probable = [one for one in known if one.p_yes is not None]
    errors = [(one.sample, (one.p_yes - float(bool(one.truth))) ** 2) for one in known if one.p_yes is not None]
    half = [one for one in read if one.showing == HALF and not one.is_denial]
    return Rates(
        answers=len(known),
        unparsed=sum(one.verdict is Verdict.UNPARSED for one in known),
        failed=len(answers) - len(read),
        hits=_count(known, True, Verdict.YES),
        misses=_count(known, True, Verdict.NO),
        false_alarms=_count(known, False, Verdict.YES),
        rejections=_count(known, False, Verdict.NO),
        sensitivity=_share([one for one in known if one.truth], "is_right"),
        specificity=_share([one for one in known if not one.truth], "is_right"),
        yes_bias=_mean(
            [(one.sample, float(one.says_yes) - float(bool(one.truth))) for one in known], DIFFERENCE_OF_SHARES
        ),
        denial_bias=_difference(known),
        accuracy={
            name: _share([one for one in known if one.showing == name], "is_right") for name in SHOWINGS if name != HALF
        },
        half_shown_yes=_share(half, "says_yes"),
        brier=_mean(errors, SHARE) if errors else None,
        bins=tuple(_bins(probable)),
    )


def _count(answers: Sequence[KnownAnswer], truth: bool, verdict: Verdict) -> int:
    return sum(one.truth is truth and one.verdict is verdict for one in answers)


def _share(answers: Sequence[KnownAnswer], what: str) -> Estimate:
    return _mean([(one.sample, float(getattr(one, what))) for one in answers], SHARE)


def _mean(values: Sequence[tuple[str, float]], bounds: tuple[float, float]) -> Estimate:
    """The mean of numbers, those of a scene drawn together."""
    scenes: dict[str, list[float]] = {}
    for scene, value in values:
        scenes.setdefault(scene, []).append(value)
    sums = np.round([sum(own) for own in scenes.values()], _DECIMALS)
    return estimate(sums, np.array([len(own) for own in scenes.values()], dtype=float), bounds)


def _difference(answers: Sequence[KnownAnswer]) -> Estimate:
    """Accuracy on denials less that on claims: each scene has as many of both."""
    signed = [(one.sample, (1.0 if one.is_denial else -1.0) * 2.0 * one.is_right) for one in answers]
    return _mean(signed, DIFFERENCE_OF_SHARES)


def _bins(answers: Sequence[KnownAnswer]) -> list[Bin]:
    made = []
    for index in range(BINS):
        low, high = index / BINS, (index + 1) / BINS
        inside = [one for one in answers if low <= (one.p_yes or 0.0) < high or (high == 1.0 and one.p_yes == 1.0)]
        if inside:
            mean = sum(one.p_yes or 0.0 for one in inside) / len(inside)
            made.append(Bin(low, high, mean, sum(bool(one.truth) for one in inside) / len(inside), len(inside)))
    return made
