"""All scores of one run by one judging, and the file that holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from alignvid.bench.run_folder import RunFolder
from alignvid.bench.scoring.judged_run import Asked, JudgedRun, read_judged_run
from alignvid.bench.scoring.measurements import MetricComparison, MetricMean, compare_metrics, metric_means
from alignvid.bench.scoring.published import is_comparable, published
from alignvid.bench.scoring.scores import ALL, OVERALL, Comparison, Score, compare_variants, score_variants
from alignvid.bench.scoring.statistics import CONFIDENCE, RESAMPLES, SEED

SCHEMA_VERSION = 1
SCORES_JSON = "scores.json"
_DECIMALS = 6
"""Enough for 367 samples, and the same on machines that add in another order."""


@dataclass(frozen=True)
class Scorecard:
    """A run as one judge saw it, and all numbers made from it."""

    run: JudgedRun
    scores: list[Score]
    comparisons: list[Comparison]
    metrics: list[MetricMean]
    metric_comparisons: list[MetricComparison]

    def score(self, variant: str, dimension: str = OVERALL, group: str = ALL) -> Score:
        """One score; LookupError if there is none."""
        for score in self.scores:
            if (score.variant, score.dimension, score.group) == (variant, dimension, group):
                return score
        raise LookupError(f"no score of {variant} on {dimension} {group}")

    def group_names(self, dimension: str) -> list[str]:
        """The groups of a dimension, sorted."""
        return sorted({score.group for score in self.scores if score.dimension == dimension})

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; no date, no path, no time that anything took."""
        info = self.run.info
        return {
            "schema_version": SCHEMA_VERSION,
            "run": {
                "data": info.data,
                "model": info.model,
                "variants": list(self.run.variants),
                "seeds": info.seeds,
                "samples": len(self.run.samples),
            },
            "judging": self.run.judging._asdict(),
            "left_out": asdict(self.run.left_out),
            "statistics": {"confidence": CONFIDENCE, "resamples": RESAMPLES, "seed": SEED, "interval": "BCa"},
            "scores": [asdict(score) for score in self.scores],
            "comparisons": [asdict(row) for row in self.comparisons],
            "metrics": [asdict(row) for row in self.metrics],
            "metric_comparisons": [asdict(row) for row in self.metric_comparisons],
            "published": {"is_comparable": is_comparable(str(info.data.get("name", ""))), **published()},
        }

    def to_json(self) -> bytes:
        """The same records give the same bytes: keys sorted, numbers rounded."""
        text = json.dumps(_rounded(self.to_dict()), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        return (text + "\n").encode()


def score_run(folder: RunFolder, asked: Asked, margins: Mapping[str, float]) -> Scorecard:
    """Score a run from its records.

    Raises: InputError for a folder, judging, variant or margin that cannot be used; MissingExtra without scipy.
    """
    run, rows = read_judged_run(folder, asked), folder.metrics()
    metric_comparisons = compare_metrics(run, rows, margins)  # first: it refuses wrong margins
    return Scorecard(run, score_variants(run), compare_variants(run), metric_means(run, rows), metric_comparisons)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DECIMALS) + 0.0  # no minus zero
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
