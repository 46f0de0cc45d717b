"""Scores of a run, from its records alone: the same records give the same numbers.

The unit is the sample. A sample's score at one seed is the share of its questions that is right; its seeds are averaged
before samples are. docs/scores.md has the definitions and what is done with replies and videos that are not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, UInt8

from alignvid.bench.data.samples import Sample
from alignvid.bench.scoring.judged_run import JudgedRun
from alignvid.bench.scoring.outcomes import (
    COUNTED,
    OPEN,
    PLANNED,
    PRESENT,
    Outcome,
    Outcomes,
    Table,
    are,
    outcomes,
    sample_all_right,
    sample_shares,
)
from alignvid.bench.scoring.statistics import SHARE, Estimate, Paired, estimate, holm, mean, paired

OVERALL, QUESTION_CATEGORY = "overall", "question_category"
SAMPLE_DIMENSIONS = ("main_category", "sub_category", "domain")
DIMENSIONS = (OVERALL, *SAMPLE_DIMENSIONS, QUESTION_CATEGORY)
ALL = "all"


@dataclass(frozen=True)
class Group:
    """Some of the questions of some of the samples."""

    dimension: str
    name: str
    samples: Bool[np.ndarray, " sample"]
    questions: Bool[np.ndarray, "sample question"]

    @property
    def is_per_question(self) -> bool:
        """Whether each question counts the same, and not each sample."""
        return self.dimension == QUESTION_CATEGORY

    def of(self, table: Table) -> UInt8[np.ndarray, "chosen seed question"]:
        """The outcomes of this group; its other questions become no question."""
        nothing = np.uint8(Outcome.NO_QUESTION)
        return np.where(self.questions[:, None, :], table, nothing)[self.samples]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many videos were planned and came to be, and what became of the questions about them."""

    videos: int
    missing_videos: int
    questions: int
    right: int
    wrong: int
    unparsed: int
    failed: int
    unasked: int
    missing: int


@dataclass(frozen=True, kw_only=True)
class Score:
    """How one variant does on one group."""

    variant: str
    dimension: str
    group: str
    accuracy: Estimate
    """Share of questions right. Unparsed replies and missing videos are not right; what failed is left out."""
    accuracy_of_videos: Estimate
    """The same without the missing videos: how good those are that came to be."""
    bounds: tuple[float | None, float | None]
    """The accuracy if all that failed or was not asked were wrong, and if it were right."""
    all_right: Estimate
    """Share of videos with every question of the group right."""
    coverage: float
    """Share of planned videos that came to be."""
    yes_rate: float | None
    """Share of yes among the replies that say yes or no; beside `expected_yes_rate`, it shows a judge that nods."""
    expected_yes_rate: float | None
    """Share of those questions to which yes is right."""
    counts: Counts


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a variant gains over the first on one group, on the videos that both have."""

    first: str
    second: str
    dimension: str
    group: str
    difference: Estimate
    p: float | None
    p_holm: float | None
    """Adjusted for all comparisons of this dimension."""
    wins: int
    ties: int
    losses: int
    left_out: int
    """Samples of the group without a question that was answered for both."""


def score_variants(run: JudgedRun) -> list[Score]:
    """Every variant on every group."""
    found = outcomes(run)
    return [
        _score(variant, group, found, index)
        for index, variant in enumerate(run.variants)
        for group in groups(run.samples)
    ]


def compare_variants(run: JudgedRun) -> list[Comparison]:
    """The first variant with each other one on every group."""
    table = outcomes(run).table
    rows = [
        _comparison(run.variants[0], second, group, table[0], table[index])
        for index, second in enumerate(run.variants[1:], start=1)
        for group in groups(run.samples)
    ]
    adjusted: dict[int, float | None] = {}
    for dimension in DIMENSIONS:
        family = [index for index, row in enumerate(rows) if row.dimension == dimension]
        adjusted |= dict(zip(family, holm([rows[index].p for index in family]), strict=True))
    return [replace(row, p_holm=adjusted[index]) for index, row in enumerate(rows)]


def groups(samples: Sequence[Sample]) -> Iterator[Group]:
    """All samples, then each category of samples by dimension, then each category of questions."""
    places = max((len(sample.questions) for sample in samples), default=0)
    categories = np.full((len(samples), places), "", dtype=object)
    for index, sample in enumerate(samples):
        categories[index, : len(sample.questions)] = [question.category for question in sample.questions]
    everyone, every_question = np.ones(len(samples), bool), np.ones((len(samples), places), bool)
    yield Group(OVERALL, ALL, everyone, every_question)
    for dimension in SAMPLE_DIMENSIONS:
        values = np.array([getattr(sample, dimension) for sample in samples], dtype=object)
        for name in sorted(set(values)):
            yield Group(dimension, name, values == name, every_question)
    for name in sorted(set(categories[categories != ""])):
        asked = categories == name
        yield Group(QUESTION_CATEGORY, name, asked.any(axis=1), asked)


def _score(variant: str, group: Group, found: Outcomes, index: int) -> Score:
    table = group.of(found.table[index])
    right = table == Outcome.RIGHT
    answered = are(table, (Outcome.RIGHT, Outcome.WRONG))
    expects_yes = np.broadcast_to(found.expects_yes[group.samples][:, None, :], table.shape)
    has_missing = bool((table == Outcome.MISSING).any())
    accuracy = _accuracy(right, are(table, COUNTED), group)
    return Score(
        variant=variant,
        dimension=group.dimension,
        group=group.name,
        accuracy=accuracy,
        accuracy_of_videos=_accuracy(right, are(table, PRESENT), group) if has_missing else accuracy,
        bounds=(
            _value(right, are(table, PLANNED), group),
            _value(right | are(table, OPEN), are(table, PLANNED), group),
        ),
        all_right=mean(_known(sample_all_right(table)), SHARE),
        coverage=1 - _missing_videos(table) / (table.shape[0] * table.shape[1]),
        yes_rate=_share(found.said_yes[index][group.samples], answered),
        expected_yes_rate=_share(expects_yes, answered),
        counts=_counts(table),
    )


def _comparison(first: str, second: str, group: Group, first_table: Table, second_table: Table) -> Comparison:
    one, other = group.of(first_table), group.of(second_table)
    both = are(one, PRESENT) & are(other, PRESENT)
    one_sums, weights = _sums(one == Outcome.RIGHT, both, group)
    other_sums, _ = _sums(other == Outcome.RIGHT, both, group)
    found: Paired = paired(one_sums, other_sums, weights)
    return Comparison(
        first=first, second=second, dimension=group.dimension, group=group.name, p_holm=None,
        left_out=int(group.samples.sum()) - found.difference.n, **found._asdict(),
    )  # fmt: skip


def _accuracy(right: np.ndarray, counted: np.ndarray, group: Group) -> Estimate:
    return estimate(*_sums(right, counted, group), SHARE)


def _value(right: np.ndarray, counted: np.ndarray, group: Group) -> float | None:
    sums, weights = _sums(right, counted, group)
    return float(sums.sum() / weights.sum()) if len(sums) else None


def _sums(
    right: np.ndarray, counted: np.ndarray, group: Group
) -> tuple[Float[np.ndarray, " sample"], Float[np.ndarray, " sample"]]:
    """Scores times weights, and weights, of the samples that have any."""
    if not group.is_per_question:
        shares = _known(sample_shares(right, counted))
        return shares, np.ones_like(shares)
    weights = counted.sum(axis=(1, 2)).astype(float)
    return (right & counted).sum(axis=(1, 2))[weights > 0].astype(float), weights[weights > 0]


def _known(values: Float[np.ndarray, " sample"]) -> Float[np.ndarray, " known"]:
    return values[~np.isnan(values)]


def _share(hits: np.ndarray, among: np.ndarray) -> float | None:
    return float(hits[among].mean()) if among.any() else None


def _missing_videos(table: Table) -> int:
    return int((table == Outcome.MISSING).any(axis=2).sum())


def _counts(table: Table) -> Counts:
    each = {outcome.name.lower(): int((table == outcome).sum()) for outcome in PLANNED}
    return Counts(
        videos=table.shape[0] * table.shape[1],
        missing_videos=_missing_videos(table),
        questions=sum(each.values()),
        **each,
    )
