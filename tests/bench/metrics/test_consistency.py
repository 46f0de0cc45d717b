import pytest
import torch

from alignvid.bench.metrics import vbench_aggregate
from alignvid.bench.metrics.consistency import consistency
from alignvid.bench.metrics.i2v_subject import i2v_subject
from alignvid.bench.records import MetricRecord
from alignvid.errors import InputError


def test_a_frame_is_compared_with_the_one_before_and_the_first():
    features = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]])  # cosines: 0-1 0.6, 1-2 0.8, 0-2 0
    measurement = consistency(features)
    assert measurement.details["pairs"] == pytest.approx([0.6, 0.4], abs=1e-7)
    assert measurement.value == pytest.approx(0.5, abs=1e-7)


def test_opposite_frames_count_as_zero():
    assert consistency(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).value == 0.0


def test_one_frame_has_no_consistency():
    with pytest.raises(InputError, match="A video of 1 frame has no consistency; two frames are needed"):
        consistency(torch.ones(1, 3))


def test_the_reference_image_is_weighed_as_vbench_weighs_it():
    image = torch.tensor([[1.0, 0.0]])
    frames = torch.tensor([[3.0, 4.0], [0.0, 1.0], [-1.0, 0.0]])  # to the image .6 0 (-1 → 0); neighbours .8 0
    assert i2v_subject(image, frames).value == pytest.approx(0.4 * 0.6 + 0.3 * 0.4 + 0.3 * 0.0, abs=1e-7)


def row(metric, value, pairs):
    return MetricRecord(
        metric=metric,
        protocol="vbench",
        settings="0",
        job=f"job-{pairs}",
        sample="sample",
        video_sha256="0",
        value=value,
        details={"pairs": [0.0] * pairs},
    )


def test_vbench_weighs_consistency_by_frames():
    rows = [row("subject_consistency", 0.5, 1), row("subject_consistency", 0.9, 3), row("subject_consistency", None, 0)]
    assert vbench_aggregate(rows) == pytest.approx(0.8)


def test_vbench_weighs_other_metrics_by_videos():
    rows = [row("temporal_flickering", 0.5, 1), row("temporal_flickering", 0.9, 3)]
    assert vbench_aggregate(rows) == pytest.approx(0.7)


def test_an_aggregate_over_two_metrics_or_none_is_refused():
    with pytest.raises(InputError, match="not of 2"):
        vbench_aggregate([row("temporal_flickering", 0.5, 1), row("subject_consistency", 0.5, 1)])
    with pytest.raises(InputError, match="not of 0"):
        vbench_aggregate([row("temporal_flickering", None, 0)])
