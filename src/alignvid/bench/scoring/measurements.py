"""Metrics of a run: their means over samples, and whether a variant loses less than a margin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from alignvid.bench.records import NOT_LOADED, MetricRecord
from alignvid.bench.scoring.judged_run import Cell, JudgedRun
from alignvid.bench.scoring.outcomes import mean_over_seeds
from alignvid.bench.scoring.statistics import Estimate, mean, permutation_p
from alignvid.errors import InputError

Values = Float[np.ndarray, "sample seed"]


@dataclass(frozen=True, kw_only=True)
class MetricMean:
    """A metric's mean over the samples of one variant; seeds are averaged first."""

    metric: str
    protocol: str
    settings: str
    variant: str
    mean: Estimate
    failed: int
    """Videos that could not be measured."""
    unmeasured: int
    """Videos without a value, or with one of an older video only."""
    stale: int
    """Values of videos that have been made anew since."""


@dataclass(frozen=True, kw_only=True)
class MetricComparison:
    """What a variant gains over the first in a metric, on the samples that both have."""

    metric: str
    protocol: str
    settings: str
    first: str
    second: str
    difference: Estimate
    p: float | None
    lower_limit: float | None
    """One-sided: with 95 % confidence the gain is above it."""
    margin: float | None
    """The loss that the user can bear."""
    is_not_inferior: bool | None
    """Whether the lower limit is above minus the margin; None without a margin or a limit."""


def metric_means(run: JudgedRun, rows: Iterable[MetricRecord]) -> list[MetricMean]:
    """Every metric, protocol and settings, for every variant."""
    return [
        _metric_mean(run, key, variant, records)
        for key, records in _by_series(rows).items()
        for variant in run.variants
    ]


def compare_metrics(
    run: JudgedRun, rows: Iterable[MetricRecord], margins: Mapping[str, float]
) -> list[MetricComparison]:
    """The first variant with each other one in every metric.

    Args:
        run: The videos.
        rows: The run's measurements.
        margins: By metric, how much may be lost; each above 0.

    Raises: InputError for a margin of a metric that was not measured, or one that is not above 0.
    """
    series = _by_series(rows)
    _check_margins(margins, {metric for metric, _, _ in series})
    return [
        _metric_comparison(run, key, second, records, margins.get(key[0]))
        for key, records in series.items()
        for second in run.variants[1:]
    ]


def _by_series(rows: Iterable[MetricRecord]) -> dict[tuple[str, str, str], dict[str, MetricRecord]]:
    series: dict[tuple[str, str, str], dict[str, MetricRecord]] = {}
    for row in rows:
        series.setdefault((row.metric, row.protocol, row.settings), {})[row.job] = row
    measured = {(metric, protocol) for metric, protocol, settings in series if settings != NOT_LOADED}
    return {
        key: records
        for key, records in sorted(series.items())
        if key[2] != NOT_LOADED or key[:2] not in measured  # an attempt before that one, without its weights
    }


def _check_margins(margins: Mapping[str, float], metrics: set[str]) -> None:
    for metric, margin in margins.items():
        if metric not in metrics:
            known = ", ".join(sorted(metrics)) or "none"
            raise InputError(
                f"A margin is given for {metric!r}, which was not measured; measured: {known}. "
                f"Measure it first: alignvid bench measure RUN --metrics {metric}"
            )
        if not margin > 0:
            raise InputError(f"The margin {margin} of {metric!r} must be above 0: it is the loss that can be borne.")


def _metric_mean(
    run: JudgedRun, key: tuple[str, str, str], variant: str, records: Mapping[str, MetricRecord]
) -> MetricMean:
    videos = [video for cell, video in run.videos.items() if cell.variant == variant and video.status == "done"]
    rows = [records.get(video.job) for video in videos]
    fresh = [row for row, video in zip(rows, videos, strict=True) if row and row.video_sha256 == video.sha256]
    means = _means_over_seeds(_values(run, variant, records))
    return MetricMean(
        metric=key[0],
        protocol=key[1],
        settings=key[2],
        variant=variant,
        mean=mean(means[~np.isnan(means)], None),
        failed=sum(row.value is None for row in fresh),
        unmeasured=len(videos) - len(fresh),
        stale=sum(row is not None for row in rows) - len(fresh),
    )


def _metric_comparison(
    run: JudgedRun,
    key: tuple[str, str, str],
    second: str,
    records: Mapping[str, MetricRecord],
    margin: float | None,
) -> MetricComparison:
    gains = _values(run, second, records) - _values(run, run.variants[0], records)  # NaN where either has none
    means = _means_over_seeds(gains)
    means = means[~np.isnan(means)]
    lower_limit = mean(means, None, side="greater").low
    return MetricComparison(
        metric=key[0],
        protocol=key[1],
        settings=key[2],
        first=run.variants[0],
        second=second,
        difference=mean(means, None),
        p=permutation_p(means),
        lower_limit=lower_limit,
        margin=margin,
        is_not_inferior=None if margin is None or lower_limit is None else lower_limit > -margin,
    )


def _values(run: JudgedRun, variant: str, records: Mapping[str, MetricRecord]) -> Values:
    """NaN where there is no video, no value, or one of another video."""
    values = np.full((len(run.samples), len(run.seeds)), np.nan)
    for s, sample in enumerate(run.samples):
        for e, seed in enumerate(run.seeds):
            video = run.videos.get(Cell(sample.id, variant, seed))
            row = records.get(video.job) if video else None
            if video and row and row.value is not None and row.video_sha256 == video.sha256:
                values[s, e] = row.value
    return values


def _means_over_seeds(values: Values) -> Float[np.ndarray, " sample"]:
    return mean_over_seeds(np.nan_to_num(values), (~np.isnan(values)).astype(int))
