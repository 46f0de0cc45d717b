"""How little neighbouring frames differ: 1 minus their mean absolute difference over 255; no weights.

vbench/temporal_flickering.py:30-49. VBench means it for still scenes: a video that moves, or follows its prompt, scores
lower.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from alignvid.bench.metrics.consistency import check_length
from alignvid.bench.metrics.metric import Footage, Measure, Measurement, Metric, Setup
from alignvid.media.videos import Frames


def _prepare(setup: Setup) -> Measure:
    def measure(footage: Footage) -> Measurement:
        check_length(len(footage.frames), "flickering")
        differences = mean_differences(footage.frames, np.float64 if setup.protocol == "native" else np.float32)
        return Measurement((255.0 - float(np.mean(differences))) / 255.0, {"pairs": [float(d) for d in differences]})

    return measure


def mean_differences(frames: Frames, dtype: type[np.floating]) -> np.ndarray:
    """The mean absolute difference of each pair of neighbours, 0 to 255; VBench sums in float32."""
    pairs = pairwise(frame.astype(dtype) for frame in frames)
    return np.array([np.mean(np.abs(first - second)) for first, second in pairs])


METRIC = Metric(
    name="temporal_flickering",
    what="1 minus the mean absolute difference of neighbouring frames over 255 (no weights)",
    prepare=_prepare,
)
