"""How pleasing frames are: LAION's linear head on CLIP ViT-L/14, a tenth of its mean.

vbench/aesthetic_quality.py:25-72.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from alignvid.bench.metrics.backbones.clip import load_clip
from alignvid.bench.metrics.metric import Footage, Measure, Measurement, Metric, Setup, Weights
from alignvid.bench.metrics.pixels import clip_pixels, features
from alignvid.bench.metrics.weights import fill, read_state

_CLIP = Weights(name="clip-vit-l-14", what="OpenAI's CLIP ViT-L/14", default="openai/clip-vit-large-patch14")
_HEAD = Weights(
    name="aesthetic-head",
    what="sa_0_4_vit_l_14_linear.pth of github.com/LAION-AI/aesthetic-predictor",
    default=None,
)


def _prepare(setup: Setup) -> Measure:
    head = _load_head(setup.weights[_HEAD.name])
    encode = load_clip(setup.weights[_CLIP.name], setup.device)
    is_native = setup.protocol == "native"
    to_pixels = partial(clip_pixels, antialias=is_native, is_rounded=is_native)

    def measure(footage: Footage) -> Measurement:
        unit = F.normalize(features(footage.frames, to_pixels, encode, setup.device), dim=-1)
        with torch.inference_mode():
            per_frame = head(unit).squeeze(-1) / 10
        return Measurement(per_frame.mean().item(), {"frames": per_frame.tolist()})

    return measure


def _load_head(path: Path) -> nn.Linear:
    state = read_state(path)
    width = state["weight"].shape[-1] if "weight" in state else 768
    head = nn.Linear(width, 1)
    fill(head, state, path)
    return head.eval()


METRIC = Metric(
    name="aesthetic_quality",
    what="mean over frames of LAION's aesthetic score on CLIP ViT-L/14, over 10",
    weights=(_CLIP, _HEAD),
    libraries=("torch", "transformers"),
    prepare=_prepare,
)
