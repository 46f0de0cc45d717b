"""Whether a video moves, without weights: VBench's rule on OpenCV's DIS flow. Not comparable with dynamic_degree.

DIS (arXiv 1603.03590, preset medium) works on grey frames and needs no padding. Its flow differs from RAFT's, so
numbers that were published for dynamic_degree say nothing about it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from jaxtyping import UInt8

from alignvid.bench.metrics.metric import Footage, Measure, Measurement, Metric, Setup
from alignvid.bench.metrics.movement import Flow, MovementRule, compared_frames, dynamic_degree, pair_score
from alignvid.errors import InputError, MissingExtra

MIN_SIDE = 16
"""Pixels; twice the patch that DIS matches."""

Grey = UInt8[np.ndarray, "height width"]


def _prepare(setup: Setup) -> Measure:
    flow_between = load_dis()

    def measure(footage: Footage) -> Measurement:
        frames = compared_frames(footage.frames, footage.fps)
        _check_size(frames[0])
        pairs = pairwise([_grey(frame) for frame in frames])
        scores = [pair_score(flow_between(first, second)) for first, second in pairs]
        rule = MovementRule.of(len(frames), frames.shape[1], frames.shape[2], setup.protocol)
        return dynamic_degree(scores, len(frames), rule, setup.protocol)

    return measure


def load_dis() -> Callable[[Grey, Grey], Flow]:
    """Optical flow from the first frame to the second. Raises: MissingExtra without OpenCV."""
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra('DIS flow needs OpenCV; install it: pip install "alignvid[metrics]"') from error
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return lambda first, second: dis.calc(first, second, None)  # pyright: ignore[reportCallIssue, reportArgumentType]


def _grey(frame: UInt8[np.ndarray, "height width 3"]) -> Grey:
    import cv2

    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.uint8)


def _check_size(frame: UInt8[np.ndarray, "height width 3"]) -> None:
    height, width = frame.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise InputError(f"A video of {width}x{height} is too small for DIS flow; {MIN_SIDE} pixels a side are needed.")


METRIC = Metric(
    name="dynamic_degree_dis",
    what="1 if at least a quarter of the compared pairs of frames move (OpenCV DIS flow, no weights), else 0",
    libraries=("opencv-python-headless", "numpy"),
    prepare=_prepare,
)
