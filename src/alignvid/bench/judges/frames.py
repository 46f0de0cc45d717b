"""The frames that a vision-language judge sees, chosen and resized as the published evaluation does.

8 frames a second between the first and the last, both included; an even number of them, because two frames make one
temporal patch; sides a multiple of the model's patches, so that no later step resizes again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from alignvid.errors import InputError
from alignvid.media.videos import Clip

FRAME_FACTOR = 2
"""Frames in a temporal patch."""
MAX_PIXELS = 360 * 420
_MIN_TOKENS = 128
_MAX_ASPECT = 200
_RELEASED_FPS = 2.0
"""What transformers 4.50.1 assumes of frames that come without their times, as those of the released evaluation do."""

Timing = Literal["released", "true"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How frames are chosen and resized."""

    side_factor: int
    """Sides are multiples of it: patch size × merged patches."""
    timing: Timing
    """The times that the model is given: as if 2 a second ("released"), or where they stand in the video ("true")."""
    fps: float = 8.0
    min_frames: int = 4
    max_frames: int = 768
    max_pixels: int = MAX_PIXELS
    """Of a frame."""

    @property
    def min_pixels(self) -> int:
        """Smaller frames are enlarged."""
        return _MIN_TOKENS * self.side_factor**2

    def to_dict(self) -> dict[str, Any]:
        """For the judge's settings."""
        return asdict(self) | {"min_pixels": self.min_pixels}


QWEN_2_5 = Sampling(side_factor=28, timing="released")
QWEN_3 = Sampling(side_factor=32, timing="true")
"""Qwen3-VL reads times as text; false ones would be part of the question."""


@dataclass(frozen=True)
class ShownFrames:
    """What the judge sees of a video, and the times that it is given."""

    frames: UInt8[np.ndarray, "frame height width 3"]
    indices: list[int]
    """Of each frame, in a video of `total` frames at `fps`."""
    total: int
    fps: float


def sampling_for(model: str) -> Sampling:
    """By the name of a model or of its architecture."""
    return QWEN_3 if "qwen3" in model.lower().replace("_", "").replace("-", "") else QWEN_2_5


def shown_frames(clip: Clip, sampling: Sampling) -> ShownFrames:
    """The frames of a clip that a judge sees; of a picture two equal ones, as the models themselves take a picture.

    Raises: InputError if it is too narrow or has no speed.
    """
    if len(clip.frames) == 1:
        clip = Clip(np.repeat(clip.frames, FRAME_FACTOR, 0), clip.fps)
    indices = frame_indices(len(clip.frames), clip.fps, sampling)
    height, width = resized_sides(clip.frames.shape[1], clip.frames.shape[2], sampling)
    frames = resized(clip.frames[indices], height, width)
    if sampling.timing == "released":
        return ShownFrames(frames, list(range(len(indices))), len(indices), _RELEASED_FPS)
    return ShownFrames(frames, indices, len(clip.frames), clip.fps)


def frame_indices(count: int, fps: float, sampling: Sampling) -> list[int]:
    """Which frames of a video are shown, evenly from the first to the last."""
    import torch

    if fps <= 0 or count < FRAME_FACTOR:
        raise InputError(f"A video of {count} frames at {fps:g} fps cannot be judged; it needs two frames and a speed.")
    most = min(sampling.max_frames, count) // FRAME_FACTOR * FRAME_FACTOR
    wanted = min(max(count / fps * sampling.fps, sampling.min_frames), most)
    shown = int(wanted // FRAME_FACTOR * FRAME_FACTOR)
    return torch.linspace(0, count - 1, shown).round().long().tolist()  # single precision, as published


def resized_sides(height: int, width: int, sampling: Sampling) -> tuple[int, int]:
    """Height and width as multiples of the side factor, within the limits, with about the same aspect."""
    factor = sampling.side_factor
    if max(height, width) > _MAX_ASPECT * min(height, width):
        raise InputError(f"A video of {width}×{height} pixels is too narrow to be judged; at most 1 to {_MAX_ASPECT}.")
    sides = (max(factor, round(height / factor) * factor), max(factor, round(width / factor) * factor))
    if sides[0] * sides[1] > sampling.max_pixels:
        shrink = (height * width / sampling.max_pixels) ** 0.5
        return int(height / shrink / factor) * factor or factor, int(width / shrink / factor) * factor or factor
    if sides[0] * sides[1] < sampling.min_pixels:
        grow = (sampling.min_pixels / (height * width)) ** 0.5
        return -int(-height * grow // factor) * factor, -int(-width * grow // factor) * factor
    return sides


def resized(
    frames: UInt8[np.ndarray, "frame height width 3"], height: int, width: int
) -> UInt8[np.ndarray, "frame new_height new_width 3"]:
    """Bicubic with antialiasing, rounded to whole levels; frames of that size already come back as they are."""
    import torch

    if frames.shape[1:3] == (height, width):
        return frames
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    scaled = torch.nn.functional.interpolate(pixels, (height, width), mode="bicubic", antialias=True)
    return scaled.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
