"""How steady the subject stays: likeness of DINO ViT-B/16 features to the frame before and to the first.

vbench/subject_consistency.py:43-60. VBench's mean over a data set weighs videos by their frames on one GPU, and not on
several.
"""

from __future__ import annotations

from functools import partial

from alignvid.bench.metrics.backbones.dino import load_dino
from alignvid.bench.metrics.consistency import check_length, consistency
from alignvid.bench.metrics.metric import Footage, Measure, Measurement, Metric, Setup, Weights
from alignvid.bench.metrics.pixels import dino_pixels, features

DINO = Weights(name="dino-vit-b-16", what="DINO ViT-B/16", default="facebook/dino-vitb16")


def _prepare(setup: Setup) -> Measure:
    encode = load_dino(setup.weights[DINO.name], setup.device)
    to_pixels = partial(dino_pixels, antialias=setup.protocol == "native")

    def measure(footage: Footage) -> Measurement:
        check_length(len(footage.frames), "consistency")
        return consistency(features(footage.frames, to_pixels, encode, setup.device))

    return measure


METRIC = Metric(
    name="subject_consistency",
    what="mean likeness of DINO ViT-B/16 features to the frame before and to the first",
    weights=(DINO,),
    libraries=("torch", "transformers"),
    prepare=_prepare,
    is_frame_weighted=True,
)
