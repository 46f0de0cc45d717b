"""How steady the subject stays: likeness of DINO ViT-B/16 features to the frame before and to the first.

vbench/subject_consistency.py:43-60. VBench's mean over a data set weighs videos by their frames on one GPU, and not on
several.
"""

from __future__ import annotations

from functools import partial

from alignvid.bench.metrics.backbones.dino import load_dino
from alignvid.bench.metrics.consistency import consistency_by
from alignvid.bench.metrics.metric import Measure, Metric, Setup, Weights
from alignvid.bench.metrics.pixels import dino_pixels

DINO = Weights(name="dino-vit-b-16", what="DINO ViT-B/16", default="facebook/dino-vitb16")


def _prepare(setup: Setup) -> Measure:
    encode = load_dino(setup.weights[DINO.name], setup.device)
    to_pixels = partial(dino_pixels, antialias=setup.protocol == "native")
    return consistency_by(encode, to_pixels, setup.device)


METRIC = Metric(
    name="subject_consistency",
    what="mean likeness of DINO ViT-B/16 features to the frame before and to the first",
    weights=(DINO,),
    libraries=("torch", "transformers"),
    prepare=_prepare,
    is_frame_weighted=True,
)
