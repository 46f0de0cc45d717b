from itertools import pairwise

import numpy as np
import pytest

from alignvid.bench.metrics.metric import Footage, Setup
from alignvid.bench.metrics.temporal_flickering import METRIC

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 301, 407, 3), dtype=np.uint8)


def measured(protocol, tmp_path):
    footage = Footage(frames=FRAMES, fps=8.0, prompt="", image=tmp_path / "none.png")
    return METRIC.prepare(Setup(protocol=protocol, weights={}, device="cpu"))(footage)


def exact_pairs():
    """Whole numbers have no rounding, and their sum here fits a float64 without one."""
    wide = FRAMES.astype(np.int64)
    return [int(np.abs(one - other).sum()) / one.size for one, other in pairwise(wide)]


def test_the_native_protocol_sums_without_rounding(tmp_path):
    found = measured("native", tmp_path)
    assert found.details["pairs"] == exact_pairs()
    assert found.value == (255.0 - np.mean(exact_pairs())) / 255.0


def test_vbench_sums_in_single_precision(tmp_path):
    pairs = measured("vbench", tmp_path).details["pairs"]
    assert pairs != exact_pairs()
    assert pairs == pytest.approx(exact_pairs(), rel=1e-5)
