"""How well the subject of the reference image is kept: VBench-I2V's i2v_subject on DINO ViT-B/16.

vbench2_beta_i2v/i2v_subject.py:23-60. The largest likeness to the image counts the first frame, which most models copy:
that term says little. The image goes through Pillow, the frames through torch with antialiasing, as torchvision 0.17
and later do.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from alignvid.bench.metrics.backbones.dino import load_dino
from alignvid.bench.metrics.consistency import check_length, non_negative_cosine
from alignvid.bench.metrics.metric import Footage, Measure, Measurement, Metric, Setup
from alignvid.bench.metrics.pixels import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    SIDE,
    Pixels,
    centre_crop,
    dino_crop_pixels,
    features,
    normalised,
)
from alignvid.bench.metrics.subject_consistency import DINO
from alignvid.errors import InputError
from alignvid.media.images import read_image

_RESIZED = 256
_MAX_WEIGHT, _MEAN_WEIGHT, _MIN_WEIGHT = 0.4, 0.3, 0.3


def _prepare(setup: Setup) -> Measure:
    encode = load_dino(setup.weights[DINO.name], setup.device)

    def measure(footage: Footage) -> Measurement:
        check_length(len(footage.frames), "i2v_subject")
        with torch.inference_mode():
            if footage.image is None:
                raise InputError("i2v_subject compares with a reference picture, and this sample is a prompt alone.")
            image = encode(image_pixels(read_image(footage.image).pixels).to(setup.device)).float().cpu()
        return i2v_subject(image, features(footage.frames, dino_crop_pixels, encode, setup.device))

    return measure


def i2v_subject(image: torch.Tensor, frames: torch.Tensor) -> Measurement:
    """The score from features of the image, of shape (1, dim), and of the frames, (frame, dim)."""
    unit = F.normalize(frames, dim=-1)
    to_image = non_negative_cosine(image, unit).tolist()
    between = non_negative_cosine(unit[:-1], unit[1:]).tolist()
    value = _MAX_WEIGHT * max(to_image) + _MEAN_WEIGHT * float(np.mean(between)) + _MIN_WEIGHT * min(between)
    return Measurement(value, {"to_image": to_image, "pairs": between})


def image_pixels(image: Image.Image) -> Pixels:
    """The reference image as DINO gets it: resized by Pillow, so rounded to 8 bits, and cropped."""
    width, height = image.size
    short, long = sorted((width, height))
    if short != _RESIZED:
        scaled = int(_RESIZED * long / short)
        image = image.resize((_RESIZED, scaled) if width <= height else (scaled, _RESIZED), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float()
    return normalised(centre_crop(pixels, SIDE), IMAGENET_MEAN, IMAGENET_STD)


METRIC = Metric(
    name="i2v_subject",
    what="0.4 x best likeness to the reference image + 0.3 x mean + 0.3 x least likeness of neighbours (DINO ViT-B/16)",
    weights=(DINO,),
    libraries=("torch", "transformers", "pillow"),
    prepare=_prepare,
)
