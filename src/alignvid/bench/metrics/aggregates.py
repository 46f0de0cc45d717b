"""VBench's own mean over a data set, beside the mean of videos that everything else here uses."""

from __future__ import annotations

from collections.abc import Iterable

from alignvid.bench.metrics.registry import find_metrics
from alignvid.bench.records import MetricRecord
from alignvid.errors import InputError


def vbench_aggregate(rows: Iterable[MetricRecord]) -> float:
    """What VBench on one GPU reports for the videos of one metric: for consistencies, long videos weigh more.

    vbench/subject_consistency.py:68, vbench/background_consistency.py:76-78. Rows without a value are left out; count
    them apart.
    Raises: InputError if the rows are of several metrics, or none has a value.
    """
    valued = [(row, row.value) for row in rows if row.value is not None]
    names = {row.metric for row, _ in valued}
    if len(names) != 1:
        raise InputError(f"An aggregate is over values of one metric, not of {len(names)}; choose one with values.")
    is_frame_weighted = find_metrics(sorted(names))[0].is_frame_weighted
    weights = [len(row.details["pairs"]) if is_frame_weighted else 1 for row, _ in valued]
    return sum(value * weight for (_, value), weight in zip(valued, weights, strict=True)) / sum(weights)
