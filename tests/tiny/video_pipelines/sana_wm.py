"""SANA-WM and its refiner."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    SanaWMLTX2Refiner,
    SanaWMLTX2RefinerTransformer3DModel,
    SanaWMPipeline,
    SanaWMTransformer3DModel,
)

from pipelines import Built, awoken, picture, ready
from video_pipelines.ltx import TEXT_TOKENS, WIDTH, ltx2_connectors, ltx2_transformer, ltx2_vae


def sana_wm() -> Built:
    """A softmax in every other block; the prompt has padding."""
    torch.manual_seed(0)
    transformer = SanaWMTransformer3DModel(
        in_channels=4,
        num_layers=4,
        hidden_size=32,
        num_attention_heads=2,
        softmax_every_n=2,
        linear_head_dim=16,
        chunk_plucker_channels=6 * 2,
        chunk_plucker_post_attn_blocks=4,
        caption_channels=WIDTH,
    )
    pipe = SanaWMPipeline(None, None, ltx2_vae(), awoken(transformer), FlowMatchEulerDiscreteScheduler())
    return ready(pipe), {
        "image": picture(64, 32),
        "prompt": "",
        "action": "w-4,jw-4",
        "intrinsics": [50.0, 50.0, 32.0, 16.0],
        **_text(),
        "height": 32,
        "width": 64,
        "num_frames": 9,
        "num_inference_steps": 2,
        "guidance_scale": 3.0,
        "output_type": "latent",
    }


def sana_wm_refiner() -> Built:
    """A first frame, then three frames and one more; the text encoder is left out."""
    torch.manual_seed(0)
    transformer = ltx2_transformer(SanaWMLTX2RefinerTransformer3DModel)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    pipe = SanaWMLTX2Refiner(transformer, ltx2_connectors(), None, None, scheduler)
    text = torch.randn(1, TEXT_TOKENS, WIDTH), torch.ones(1, TEXT_TOKENS)
    pipe._encode_prompt = lambda *_, **__: text
    call = {"sana_latent": torch.randn(1, 4, 5, 4, 8), "prompt": "", "fps": 16.0, "output_type": "latent"}
    return ready(pipe), call


BUILDERS = (sana_wm, sana_wm_refiner)


def _text() -> dict[str, Any]:
    masks = {"prompt": 12, "negative_prompt": 9}  # tokens that are no padding
    text: dict[str, Any] = {f"{name}_embeds": torch.randn(1, 1, TEXT_TOKENS, WIDTH) for name in masks}
    return text | {
        f"{name}_attention_mask": (torch.arange(TEXT_TOKENS) < valid).long().unsqueeze(0)
        for name, valid in masks.items()
    }
