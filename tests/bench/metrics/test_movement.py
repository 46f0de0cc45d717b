import math

import numpy as np
import pytest

from alignvid.bench.metrics.movement import MovementRule, compared_frames, dynamic_degree, pair_score
from alignvid.errors import InputError


def rule(frame_count, protocol="vbench"):
    return MovementRule.of(frame_count, 256, 300, protocol)


def degree(scores, protocol="vbench"):
    frame_count = len(scores) + 1
    return dynamic_degree(scores, frame_count, rule(frame_count, protocol), protocol)


def test_a_pair_scores_the_mean_of_its_fastest_twentieth():
    flow = np.zeros((10, 10, 2), np.float32)
    flow[0, 0], flow[3, 4], flow[9, 9], flow[5, 5] = (3, 4), (0, -8), (0.6, 0.8), (-7, 0)
    flow[6, 6] = (0, 2)
    flow[7, 7] = (0.1, 0)  # the sixth: not among the fastest five of a hundred
    assert pair_score(flow) == pytest.approx((5 + 8 + 1 + 7 + 2) / 5, abs=1e-7)


@pytest.mark.parametrize(
    ("frame_count", "needed"), [(1, 0), (2, 0), (3, 1), (6, 2), (10, 2), (14, 4), (16, 4), (40, 10), (41, 10)]
)
def test_a_quarter_of_the_frames_must_move_with_halves_rounded_to_even(frame_count, needed):
    assert rule(frame_count).needed == needed


def test_the_threshold_follows_the_short_side():
    assert MovementRule.of(16, 480, 832, "vbench").threshold == 6.0 * 480 / 256
    assert MovementRule.of(16, 832, 480, "vbench").threshold == 6.0 * 480 / 256


def test_a_score_at_the_threshold_does_not_move():
    assert degree([6.0, 6.0]).value == 0.0
    assert degree([6.0, math.nextafter(6.0, 7.0)]).value == 1.0


def test_scores_threshold_and_margin_are_kept():
    measurement = degree([1.0, 9.0, 3.0, 7.5, 0.0])
    assert measurement.value == 1.0  # 6 frames, 2 needed: 9 and 7.5
    assert measurement.details == {
        "pairs": [1.0, 9.0, 3.0, 7.5, 0.0],
        "threshold": 6.0,
        "moving": 2,
        "needed": 2,
        "margin": 7.5 / 6.0,
    }


def test_two_frames_always_move_in_vbench_and_must_do_so_natively():
    assert degree([0.0]).value == 1.0
    assert degree([0.0]).details["margin"] is None
    assert degree([0.0], "native").value == 0.0
    assert degree([6.5], "native").value == 1.0


def test_one_frame_never_moves_in_vbench_and_is_refused_natively():
    assert degree([]).value == 0.0
    with pytest.raises(InputError, match="A video of 1 frame has no movement; two frames are needed"):
        degree([], "native")


@pytest.mark.parametrize(
    ("fps", "step"), [(3, 1), (8, 1), (12, 2), (15, 2), (16, 2), (20, 2), (24, 3), (25, 3), (28, 4), (30, 4), (60, 8)]
)
def test_frames_are_compared_about_eight_times_a_second(fps, step):
    frames = np.arange(50, dtype=np.uint8).reshape(50, 1, 1, 1).repeat(3, axis=3)
    assert compared_frames(frames, fps)[:, 0, 0, 0].tolist() == list(range(0, 50, step))
