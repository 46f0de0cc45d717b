"""From frames to the pixels that a network expects: VBench's transforms as pure functions on tensors.

VBench resizes without antialiasing and keeps what a bicubic kernel overshoots (vbench/utils.py:33-54). Networks were
trained on antialiased pictures, so the native protocol asks for `antialias=True`. It matters: 40 of 255 on noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from alignvid.media.videos import Frames

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE = 224

Pixels = Float[Tensor, "frame 3 _ _"]
ToPixels = Callable[[Frames], Pixels]
Encode = Callable[[Pixels], Float[Tensor, "frame dim"]]

_BATCH = 16  # frames; 16 of 1280x720 in float32 are 180 MB


def clip_pixels(frames: Frames, *, antialias: bool, is_rounded: bool) -> Float[Tensor, "frame 3 224 224"]:
    """CLIP's view of the frames: short side 224, bicubic, centre crop.

    Args:
        frames: RGB.
        antialias: False in VBench.
        is_rounded: Whether resized values are clamped and rounded to 8 bits, as torchvision does with uint8.
    """
    resized = resized_short_side(_as_float(frames), SIDE, "bicubic", antialias=antialias)
    if is_rounded:
        resized = resized.clamp(0, 255).round()
    return normalised(centre_crop(resized, SIDE), CLIP_MEAN, CLIP_STD)


def dino_pixels(frames: Frames, *, antialias: bool) -> Pixels:
    """DINO's view for the consistency of subjects: short side 224, bilinear, no crop."""
    resized = resized_short_side(_as_float(frames), SIDE, "bilinear", antialias=antialias)
    return normalised(resized, IMAGENET_MEAN, IMAGENET_STD)


def dino_crop_pixels(frames: Frames) -> Float[Tensor, "frame 3 224 224"]:
    """DINO's view for i2v_subject: short side 256, bicubic with antialiasing, centre crop."""
    resized = resized_short_side(_as_float(frames), 256, "bicubic", antialias=True)
    return normalised(centre_crop(resized, SIDE), IMAGENET_MEAN, IMAGENET_STD)


def resized_short_side(frames: Pixels, side: int, mode: Literal["bilinear", "bicubic"], *, antialias: bool) -> Pixels:
    """Scaled so that the short side has this length; the long side is rounded down."""
    height, width = frames.shape[-2:]
    short, long = sorted((height, width))
    if short == side:
        return frames
    long = int(side * long / short)
    size = (side, long) if height <= width else (long, side)
    return F.interpolate(frames, size=size, mode=mode, align_corners=False, antialias=antialias)


def centre_crop(frames: Pixels, side: int) -> Pixels:
    """The middle square; a half pixel goes to the even side, as torchvision rounds."""
    height, width = frames.shape[-2:]
    top, left = round((height - side) / 2), round((width - side) / 2)
    return frames[..., top : top + side, left : left + side]


def normalised(frames: Pixels, mean: tuple[float, ...], std: tuple[float, ...]) -> Pixels:
    """From 0..255 to a network's range."""
    shape = (3, 1, 1)
    return (frames / 255.0 - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)


@torch.inference_mode()
def features(frames: Frames, to_pixels: ToPixels, encode: Encode, device: str) -> Float[Tensor, "frame dim"]:
    """What a network says of each frame, on the CPU in float32; a few frames at a time."""
    return torch.cat([encode(to_pixels(batch).to(device)).float().cpu() for batch in _batches(frames)])


def _batches(frames: Frames) -> Iterator[Frames]:
    return (frames[start : start + _BATCH] for start in range(0, len(frames), _BATCH))


def _as_float(frames: np.ndarray) -> Pixels:
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
