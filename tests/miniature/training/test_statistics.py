"""Intervals against values worked out elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from alignvid.miniature.training.statistics import bootstrap_mean, wilson


def test_wilson_matches_the_textbook() -> None:
    rate = wilson([True] * 8 + [False] * 2)  # Brown, Cai and DasGupta: 8 of 10 gives 0.490 to 0.943
    assert (rate.value, rate.low, rate.high, rate.n) == pytest.approx((0.8, 0.490, 0.943, 10), abs=1e-3)


def test_wilson_of_no_hits_reaches_above_zero() -> None:
    rate = wilson([False] * 20)
    assert rate.low == pytest.approx(0, abs=1e-12)
    assert rate.high > 0.1


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one observation"):
        wilson([])


def test_bootstrap_resamples_scenes_not_clips() -> None:
    """Three seeds that always agree say no more than one."""
    one = (np.arange(100) % 2).astype(float)[:, None]
    alone, tripled = bootstrap_mean(one, seed=0), bootstrap_mean(np.repeat(one, 3, axis=1), seed=0)
    assert (alone.low, alone.high) == (tripled.low, tripled.high)
    assert alone.high - alone.low == pytest.approx(2 * 1.96 * 0.05, rel=0.1)


def test_intervals_print_as_percentages() -> None:
    assert str(wilson([True, False])) == "50.0 % [9.5, 90.5], n = 2"
