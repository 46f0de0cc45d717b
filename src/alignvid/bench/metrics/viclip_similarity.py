"""How well a video matches its prompt: cosine of ViCLIP's vectors, which VBench calls overall_consistency.

vbench/overall_consistency.py:43-63, frames by vbench/utils.py:69-93. The paper's ViCLIP number has no released code;
this definition is adopted for it.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional as F

from alignvid.bench.metrics.backbones.viclip import load_viclip
from alignvid.bench.metrics.metric import Footage, Measure, Measurement, Metric, Setup, Weights
from alignvid.bench.metrics.pixels import clip_pixels

_VICLIP = Weights(
    name="viclip",
    what="ViClip-InternVid-10M-FLT.pth",
    default="OpenGVLab/VBench_Used_Models/ViClip-InternVid-10M-FLT.pth",
)
_TOKENIZER = Weights(
    name="clip-tokenizer", what="CLIP's tokenizer", default="openai/clip-vit-large-patch14", has_tensors=False
)


def _prepare(setup: Setup) -> Measure:
    model = load_viclip(setup.weights[_VICLIP.name], setup.weights[_TOKENIZER.name], setup.device)
    is_native = setup.protocol == "native"

    @torch.inference_mode()
    def measure(footage: Footage) -> Measurement:
        indices = middle_frames(len(footage.frames), model.video.frame_count)
        # VBench hands uint8 to the resizing, which rounds; natively antialiased, and rounded as CLIP was trained
        pixels = clip_pixels(footage.frames[indices], antialias=is_native, is_rounded=True)
        video, text = model.encode_video(pixels.to(setup.device)), model.encode_text(footage.prompt)
        cosine = (F.normalize(video.float(), dim=-1) * F.normalize(text.float(), dim=-1)).sum().item()
        return Measurement(cosine, {"frames": indices})

    return measure


def middle_frames(length: int, count: int) -> list[int]:
    """The middle frame of each of `count` equal parts of the video; of a shorter one, the last frame repeated."""
    edges = np.linspace(0, length, min(count, length) + 1).astype(int).tolist()
    indices = [(start + end - 1) // 2 for start, end in pairwise(edges)]
    return indices + [indices[-1]] * (count - len(indices))


METRIC = Metric(
    name="viclip_similarity",
    what="cosine between ViCLIP's vectors of eight frames and of the prompt",
    weights=(_VICLIP, _TOKENIZER),
    libraries=("torch", "transformers", "ftfy"),
    prepare=_prepare,
)
