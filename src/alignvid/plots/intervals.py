"""Intervals around means: a bootstrap over samples, or for a single sample the range that its mean hides."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

RESAMPLES = 2_000
LEVEL = 0.95


class Band(NamedTuple):
    """Means with what lies around them, place by place."""

    middle: Float[np.ndarray, " place"]
    low: Float[np.ndarray, " place"]
    high: Float[np.ndarray, " place"]
    meaning: str
    """What low and high are, for a caption."""


def band(values: Float[np.ndarray, "sample place rest"], *, rest: str) -> Band:
    """Means over samples and over the rest, with an interval.

    Args:
        values: NaN where nothing was recorded.
        rest: what the last axis is, such as "steps"; a single sample is given by its range over it.
    """
    by_sample = mean_without_nan(values, 2)
    middle = mean_without_nan(by_sample, 0)
    if len(values) == 1:
        low, high = np.fmin.reduce(values[0], axis=-1), np.fmax.reduce(values[0], axis=-1)
        return Band(middle, low, high, f"bands from the smallest to the largest over {rest}")
    low, high = bootstrap_interval(by_sample)
    return Band(middle, low, high, f"bands: {LEVEL * 100:.0f} % bootstrap intervals over samples")


def bootstrap_interval(
    by_sample: Float[np.ndarray, "sample ..."],
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of the mean over samples at each place. Samples are resampled whole, always the same way."""
    count = len(by_sample)
    draws = np.random.default_rng(0).multinomial(count, [1 / count] * count, RESAMPLES) / count
    means = np.tensordot(draws, by_sample, 1)  # -> (resample, ...)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def mean_without_nan(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean along an axis; NaN only where all numbers are."""
    is_there = ~np.isnan(values)
    total, count = np.where(is_there, values, 0.0).sum(axis), is_there.sum(axis)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
