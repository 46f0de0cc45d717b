"""Rates and their uncertainty: Wilson's interval for one variant, a bootstrap over scenes for a pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Z_95 = 1.959964  # two-sided 95 % of a normal distribution
RESAMPLES = 10_000


class Interval(NamedTuple):
    """A value with its 95 % interval, and the number of observations behind it."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """As percentages."""
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}], n = {self.n}"


def wilson(hits: Sequence[bool]) -> Interval:
    """The share of hits with Wilson's score interval; for independent observations.

    Raises: ValueError if there is none, because a rate of nothing is not 0.
    """
    n = len(hits)
    if n == 0:
        raise ValueError("A rate needs at least one observation.")
    share, z2 = sum(hits) / n, Z_95**2 / n
    middle = (share + z2 / 2) / (1 + z2)
    reach = Z_95 * np.sqrt(share * (1 - share) / n + z2 / (4 * n)) / (1 + z2)
    return Interval(share, float(middle - reach), float(middle + reach), n)


def bootstrap_mean(by_scene: NDArray[np.float64], *, seed: int) -> Interval:
    """The mean of an array (scenes, noise seeds); scenes are resampled whole, as their seeds are not independent."""
    means = by_scene.mean(axis=1)
    rng = np.random.default_rng(seed)
    resampled = [means[rng.integers(0, len(means), len(means))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Interval(float(means.mean()), float(low), float(high), by_scene.size)
