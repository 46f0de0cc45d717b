"""Intervals and tests on paired numbers: one number per sample and variant, because a sample's questions go together.

Every estimate is a ratio of two sums over samples. With weights of one that is a mean; with the numbers of questions as
weights it is a share of questions, whose interval still comes from drawing whole samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from alignvid.errors import MissingExtra

CONFIDENCE = 0.95
RESAMPLES = 10_000
"""Of the bootstrap; the permutation test draws one fewer, so that its p is a multiple of 1/10,000."""
SEED = 0
"""Of every draw: the same records give the same bytes."""

_DECIMALS = 12
"""Sums in another order differ in the last digits; a tie is a tie."""

Side = Literal["two-sided", "greater"]
SHARE = (0.0, 1.0)
DIFFERENCE_OF_SHARES = (-1.0, 1.0)


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval. All three are None where there is nothing to estimate from."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Samples behind it."""


class Paired(NamedTuple):
    """What a variant gains over another, by sample."""

    difference: Estimate
    p: float | None
    """Two-sided permutation test of no difference."""
    wins: int
    ties: int
    losses: int


def estimate(
    sums: Float[np.ndarray, " sample"],
    weights: Float[np.ndarray, " sample"],
    bounds: tuple[float, float] | None,
    side: Side = "two-sided",
) -> Estimate:
    """The ratio of two sums over samples, with its BCa bootstrap interval (Efron 1987).

    Args:
        sums: By sample: a score times its weight.
        weights: By sample, above 0.
        bounds: Least and greatest ratio that one sample can have, or None if there are none.
        side: "greater" gives a lower limit only, at the same confidence.
    """
    n = len(sums)
    if n == 0:
        return Estimate(None, None, None, 0)
    value = float(sums.sum() / weights.sum())
    if np.ptp(sums / weights) == 0:
        return Estimate(value, *_interval_of_equals(value, n, bounds), n)
    found = (
        _stats()
        .bootstrap(
            (sums, weights),
            _ratio,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=_batch(n),
            confidence_level=CONFIDENCE,
            alternative=side,
            method="BCa",
            rng=SEED,
        )
        .confidence_interval
    )
    return Estimate(value, _finite(found.low), _finite(found.high), n)


def mean(
    values: Float[np.ndarray, " sample"], bounds: tuple[float, float] | None, side: Side = "two-sided"
) -> Estimate:
    """The mean over samples, with its interval."""
    return estimate(values, np.ones_like(values), bounds, side)


def paired(
    first: Float[np.ndarray, " sample"], second: Float[np.ndarray, " sample"], weights: Float[np.ndarray, " sample"]
) -> Paired:
    """What the second gains over the first on the same samples; both are shares times the weights."""
    gains = np.round(second - first, _DECIMALS)
    return Paired(
        estimate(gains, weights, DIFFERENCE_OF_SHARES),
        permutation_p(gains),
        wins=int((gains > 0).sum()),
        ties=int((gains == 0).sum()),
        losses=int((gains < 0).sum()),
    )


def permutation_p(gains: Float[np.ndarray, " sample"]) -> float | None:
    """Two-sided sign-flip p-value: under the null hypothesis the two variants are exchangeable.

    Exact where all flips are fewer than the draws. None without a sample; 1 with a single one, which decides nothing.
    """
    if len(gains) < 2:
        return 1.0 if len(gains) else None
    found = _stats().permutation_test(
        (gains, np.zeros_like(gains)),
        _sum_of_differences,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES - 1,
        batch=_batch(len(gains)),
        rng=SEED,
    )
    return float(found.pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted by Holm (1979), in the order given; None stays None and is no comparison."""
    order = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted[index] = largest
    return adjusted


def _interval_of_equals(value: float, n: int, bounds: tuple[float, float] | None) -> tuple[float | None, float | None]:
    """Where all samples agree, resampling sees no spread. What can be said: with 95 % confidence at most a share of
    1 − 0.025^(1/n) would differ (Clopper and Pearson 1934, for n of n), by as much as the bounds allow.
    """
    if bounds is None:
        return None, None
    unseen = 1 - ((1 - CONFIDENCE) / 2) ** (1 / n)
    return value - unseen * (value - bounds[0]), value + unseen * (bounds[1] - value)


def _ratio(sums: np.ndarray, weights: np.ndarray, axis: int) -> Any:
    return sums.sum(axis=axis) / weights.sum(axis=axis)


def _sum_of_differences(first: np.ndarray, second: np.ndarray, axis: int) -> Any:
    return (first - second).sum(axis=axis)


def _batch(n: int) -> int:
    """Draws at a time, so that memory stays below some 10 MB."""
    return max(1, 500_000 // n)


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _stats() -> Any:
    try:
        from scipy import stats
    except ImportError as error:
        raise MissingExtra(
            f'Intervals and tests need scipy ({error}); install it: pip install "alignvid[bench]"'
        ) from error
    return stats
