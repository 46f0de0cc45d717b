from statistics import NormalDist

import numpy as np
import pytest

from alignvid.bench.scoring.statistics import DIFFERENCE_OF_SHARES, SHARE, estimate, holm, mean, paired, permutation_p


def test_no_sample_gives_no_value_and_not_zero():
    found = mean(np.array([]), SHARE)
    assert (found.value, found.low, found.high, found.n) == (None, None, None, 0)
    assert permutation_p(np.array([])) is None


def test_ten_of_ten_has_the_exact_interval_of_clopper_and_pearson():
    found = mean(np.ones(10), SHARE)
    assert found.low == pytest.approx(0.025 ** (1 / 10))
    assert (found.value, found.high) == (1.0, 1.0)


def test_gains_that_are_all_zero_do_not_prove_that_there_is_none():
    found = mean(np.zeros(10), DIFFERENCE_OF_SHARES)
    assert found.low == pytest.approx(-(1 - 0.025 ** (1 / 10)))
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 10))


def test_equal_values_of_an_unbounded_metric_have_no_interval():
    assert mean(np.full(10, 3.5), None).low is None


def test_weights_make_a_share_of_questions():
    right, asked = np.array([1.0, 3.0, 0.0]), np.array([2.0, 4.0, 2.0])
    assert estimate(right, asked, SHARE).value == 4 / 8


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    draws = [mean(rng.integers(0, 4, 60) / 3, SHARE) for _ in range(200)]
    covered = sum(draw.low <= 0.5 <= draw.high for draw in draws)
    assert 178 <= covered <= 198  # 190 expected; 3.9 standard deviations down, 2.6 up


def test_a_one_sided_limit_is_nearer_than_a_two_sided_one():
    values = np.random.default_rng(0).normal(size=50)
    one, two = mean(values, None, side="greater"), mean(values, None)
    assert two.low < one.low < one.value
    assert one.high is None


def test_three_gains_of_three_have_the_exact_p_of_one_in_four():
    assert permutation_p(np.array([0.5, 0.25, 1.0])) == 2 / 8


def test_a_single_gain_decides_nothing():
    assert permutation_p(np.array([1.0])) == 1.0


def test_two_gains_of_two_have_the_exact_p_of_one_half():
    assert permutation_p(np.array([0.5, 1.0])) == 2 / 4


def test_the_smallest_p_of_many_gains_is_that_of_ten_thousand_draws():
    assert permutation_p(np.linspace(0.1, 1.0, 20)) == 2 / 10_000


def test_a_single_sample_has_a_value_and_almost_no_certainty():
    found = mean(np.array([0.75]), SHARE)
    assert (found.value, found.n) == (0.75, 1)
    assert (found.low, found.high) == pytest.approx((0.75 * 0.025, 1 - 0.25 * 0.025))


def test_permutation_p_is_uniform_where_nothing_is_gained():
    rng = np.random.default_rng(0)
    values = [permutation_p(rng.normal(size=10)) for _ in range(200)]
    assert 2 <= sum(p <= 0.05 for p in values) <= 19  # 10 expected, within 3 standard deviations


def test_wins_ties_and_losses_are_counted_by_sample_and_thirds_do_tie():
    first, second = np.array([0.1 + 0.2, 0.5, 1.0]), np.array([0.3, 1.0, 0.0])
    found = paired(first, second, np.ones(3))
    assert (found.wins, found.ties, found.losses) == (1, 1, 1)


def test_holm_steps_down_and_never_below_a_smaller_p():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_counts_only_comparisons_that_were_made():
    assert holm([0.02, None, 0.5]) == pytest.approx([0.04, None, 0.5], nan_ok=True)


def test_the_same_numbers_give_the_same_interval():
    values = np.random.default_rng(1).random(40)
    assert mean(values, SHARE) == mean(values, SHARE)


def explicit_bca(values: np.ndarray, resamples: int = 20_000) -> tuple[float, float]:
    """Efron (1987), equations 6.8 and 7.4 in the form of Efron and Tibshirani, chapter 14.3; its own draws."""
    rng, normal = np.random.default_rng(7), NormalDist()
    means = rng.choice(values, (resamples, len(values))).mean(axis=1)
    bias = normal.inv_cdf(float((means < values.mean()).mean() + (means == values.mean()).mean() / 2))
    left_out = (values.sum() - values) / (len(values) - 1)
    spread = left_out.mean() - left_out
    acceleration = (spread**3).sum() / (6 * (spread**2).sum() ** 1.5)

    def level(z: float) -> float:
        return normal.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))

    return tuple(np.quantile(means, [level(-1.959964), level(1.959964)]))


def test_the_interval_is_corrected_for_bias_and_acceleration():
    """Of a skewed sample the percentile interval lies too low; the BCa one reaches further up than down."""
    values = np.random.default_rng(3).exponential(size=25) ** 2
    found, expected = mean(values, None), explicit_bca(values)
    means = np.random.default_rng(7).choice(values, (20_000, 25)).mean(axis=1)
    percentile = np.quantile(means, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(expected, rel=0.05)
    assert found.low > percentile[0] * 1.05
    assert found.high > percentile[1] * 1.05


def test_a_sample_is_drawn_with_its_weight():
    """Every sample is right in about half of its questions, however many it has: so is each draw of samples."""
    asked = np.array([2.0, 200.0, 4.0, 2.0, 100.0, 2.0])
    right = asked * np.array([0.5, 0.5, 0.5, 0.5, 0.51, 0.5])
    found = estimate(right, asked, SHARE)
    assert 0.5 <= found.low <= found.value <= found.high <= 0.51
