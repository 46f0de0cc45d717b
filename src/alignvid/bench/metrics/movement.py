"""VBench's rule for whether a video moves, on the optical flow between its frames, whoever computes the flow.

vbench/dynamic_degree.py:50-61, 84-100. Python rounds halves to even, which makes two frames need no moving pair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from alignvid.bench.metrics.consistency import check_length
from alignvid.bench.metrics.metric import Measurement, ProtocolName
from alignvid.media.videos import Frames

FRAMES_PER_SECOND = 8
"""About the rate at which pairs are compared: every `round(fps / 8)`-th frame, so 6 (of 12 fps) to 10 (of 20 fps)."""

_FASTEST_SHARE = 0.05
_PIXELS_AT_256 = 6.0  # of movement between two frames whose short side is 256

Flow = Float[np.ndarray, "_ _ 2"]


@dataclass(frozen=True)
class MovementRule:
    """From when on a pair moves, and how many must."""

    threshold: float
    """Pixels; a pair above it moves."""
    needed: int
    """Moving pairs that make a video dynamic."""

    @classmethod
    def of(cls, frame_count: int, height: int, width: int, protocol: ProtocolName) -> MovementRule:
        """VBench's rule for so many compared frames; natively at least one pair must move."""
        needed = round(4 * (frame_count / 16.0))
        return cls(_PIXELS_AT_256 * (min(height, width) / 256.0), max(needed, 1) if protocol == "native" else needed)


def compared_frames(frames: Frames, fps: float) -> UInt8[np.ndarray, "_ height width 3"]:
    """The frames between which flow is computed."""
    return frames[:: max(1, round(fps / FRAMES_PER_SECOND))]


def pair_score(flow: Flow) -> float:
    """The mean length of the fastest 5 % of a flow field, in pixels."""
    lengths = np.sqrt(np.square(flow[..., 0]) + np.square(flow[..., 1])).ravel()
    fastest = np.sort(-lengths)[: int(lengths.size * _FASTEST_SHARE)]
    return float(-np.mean(fastest))


def dynamic_degree(scores: list[float], frame_count: int, rule: MovementRule, protocol: ProtocolName) -> Measurement:
    """1 if enough pairs move, else 0, with the score of each pair and the margin.

    VBench counts while it goes over the pairs: one frame has no pair and is never dynamic, two frames need none of
    their one pair to move and always are. Raises: InputError natively below two frames.
    """
    if protocol == "native":
        check_length(frame_count, "movement")
    moving = sum(score > rule.threshold for score in scores)
    is_dynamic = bool(scores) and moving >= rule.needed
    return Measurement(float(is_dynamic), _details(scores, moving, rule))


def _details(scores: list[float], moving: int, rule: MovementRule) -> dict[str, Any]:
    return {
        "pairs": scores,
        "threshold": rule.threshold,
        "moving": moving,
        "needed": rule.needed,
        "margin": _margin(scores, rule),
    }


def _margin(scores: list[float], rule: MovementRule) -> float | None:
    """The score of the pair that decides over the threshold: above 1 is dynamic. None where no pair decides."""
    if not 1 <= rule.needed <= len(scores):
        return None
    return sorted(scores, reverse=True)[rule.needed - 1] / rule.threshold
