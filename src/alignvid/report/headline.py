"""The headline of a scored run: each variant's accuracy, and in a sentence what each does against the first."""

from __future__ import annotations

from typing import NamedTuple

from alignvid.bench.scoring.measurements import MetricComparison
from alignvid.bench.scoring.scorecard import Scorecard
from alignvid.bench.scoring.scores import OVERALL, Comparison
from alignvid.bench.scoring.statistics import CONFIDENCE
from alignvid.report.tables import Table, percent

FEWEST = 6
"""Samples of which a sign-flip test can give a p below 0.05: 2/2^6 is 0.03, 2/2^5 is 0.06."""


class Headline(NamedTuple):
    """What to read first."""

    table: Table
    verdicts: list[str]


def headline(card: Scorecard) -> Headline:
    """Accuracies over all samples, and the paired verdicts."""
    rows = []
    for variant in card.run.variants:
        score = card.score(variant)
        accuracy = percent(score.accuracy) if score.accuracy.n else "n = 0"
        rows.append((variant, accuracy, percent(score.all_right), str(score.accuracy.n)))
    table = Table("Headline", ("variant", "accuracy % [95 %]", "all right % [95 %]", "samples"), rows)
    overall = [_verdict(row) for row in card.comparisons if row.dimension == OVERALL]
    margins = [_margin(row) for row in card.metric_comparisons if row.margin is not None]
    return Headline(table, [*overall, *margins])


def _verdict(row: Comparison) -> str:
    difference, p = row.difference, row.p_holm
    if difference.value is None or p is None:
        return f"{row.second} and {row.first} have no sample in common that was answered."
    counts = f"{row.wins} wins, {row.ties} ties, {row.losses} losses on {difference.n} samples"
    said = f"{percent(difference, signed=True)} points, p {p:.4f};\n  {counts}"
    if difference.n < FEWEST:
        return f"{row.second} against {row.first}: too few samples to say, at least {FEWEST} are needed:\n  {said}"
    if p >= 1 - CONFIDENCE:
        return f"{row.second} against {row.first}: no difference shown:\n  {said}"
    return f"{row.second} is {'better' if difference.value > 0 else 'worse'} than {row.first}:\n  {said}"


def _margin(row: MetricComparison) -> str:
    said = "not worse" if row.is_not_inferior else "not shown to be no worse"
    return f"{row.second} against {row.first} in {row.metric}: {said}, at a margin of {row.margin:g}"
