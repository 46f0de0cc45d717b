"""How steady the whole picture stays: likeness of CLIP ViT-B/32 features to the frame before and to the first.

vbench/background_consistency.py:36-56. VBench's mean over a data set weighs videos by their frames.
"""

from __future__ import annotations

from functools import partial

from alignvid.bench.metrics.backbones.clip import load_clip
from alignvid.bench.metrics.consistency import consistency_by
from alignvid.bench.metrics.metric import Measure, Metric, Setup, Weights
from alignvid.bench.metrics.pixels import clip_pixels

_CLIP = Weights(name="clip-vit-b-32", what="OpenAI's CLIP ViT-B/32", default="openai/clip-vit-base-patch32")


def _prepare(setup: Setup) -> Measure:
    encode = load_clip(setup.weights[_CLIP.name], setup.device)
    is_native = setup.protocol == "native"
    to_pixels = partial(clip_pixels, antialias=is_native, is_rounded=is_native)
    return consistency_by(encode, to_pixels, setup.device)


METRIC = Metric(
    name="background_consistency",
    what="mean likeness of CLIP ViT-B/32 features to the frame before and to the first",
    weights=(_CLIP,),
    libraries=("torch", "transformers"),
    prepare=_prepare,
    is_frame_weighted=True,
)
