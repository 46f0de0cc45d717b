"""The foreground ratio, against cases worked out by hand."""

import numpy as np
import pytest

from alignvid.calibration.ratio import coverage, foreground_ratio, high_weights


def test_coverage_is_the_share_of_each_patch():
    mask = np.zeros((4, 8), bool)
    mask[:2, :2] = True  # one whole patch of 2x2
    mask[2, 2:6] = True  # half of two patches
    assert coverage(mask, (2, 4)).tolist() == [[1, 0, 0, 0], [0, 0.5, 0.5, 0]]


def test_patches_that_do_not_end_between_pixels_are_weighed_by_area():
    mask = np.array([[True, False, False]])
    assert coverage(mask, (1, 2))[0].tolist() == pytest.approx([2 / 3, 0])


def test_a_tenth_of_the_tokens_is_high():
    strength = np.arange(20.0)
    assert high_weights(strength).tolist() == [0.0] * 18 + [1.0] * 2


def test_at_least_one_token_is_high():
    assert high_weights(np.array([0.0, 2.0, 1.0])).tolist() == [0, 1, 0]


def test_equals_at_the_limit_share_the_rest():
    strength = np.array([9.0, 5.0, 5.0, *[0.0] * 17])  # two are high: one alone, one between two
    assert high_weights(strength)[:4].tolist() == [1, 0.5, 0.5, 0]


def test_high_tokens_on_whole_foreground_give_one():
    strength, covered = np.zeros(20), np.zeros(20)
    strength[3:5], covered[3:9] = 1, 1
    assert foreground_ratio(strength, covered) == 1.0


def test_one_of_two_high_tokens_on_the_foreground_gives_a_half():
    strength, covered = np.zeros(20), np.zeros(20)
    strength[3:5], covered[4:9] = 1, 1
    assert foreground_ratio(strength, covered) == 0.5


def test_a_perfect_map_of_a_foreground_smaller_than_a_token_gives_one():
    strength, covered = np.zeros(20), np.zeros(20)
    strength[7], strength[8], covered[7] = 2, 1, 0.3
    assert foreground_ratio(strength, covered) == 1.0


def test_a_map_that_singles_out_nothing_gives_the_share_of_the_foreground():
    covered = np.zeros(20)
    covered[:5] = 1
    assert foreground_ratio(np.ones(20), covered) == pytest.approx(5 / 20)


def test_a_ratio_to_no_foreground_is_refused():
    with pytest.raises(ValueError, match="needs a foreground"):
        foreground_ratio(np.arange(10.0), np.zeros(10))
