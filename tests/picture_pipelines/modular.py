"""Modular pipelines for pictures: Flux 3. What upsamples a prompt, encodes it and decodes the picture is left out."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    ClassifierFreeGuidance,
    DiffusionPipeline,
    Flux3AutoBlocks,
    Flux3DistilledAutoBlocks,
    Flux3Transformer2DModel,
)
from diffusers.modular_pipelines import SequentialPipelineBlocks

from image_pipelines import WIDTH, embeddings, flux2_vae, reference_picture, two_texts
from pipelines import Built, flow_match_euler, ready

_OUTSIDE = ("prompt_upsampler", "text_encoder", "decode")


def flux3() -> Built:
    return _flux3(Flux3AutoBlocks()), _call(**two_texts())


def flux3_edit() -> Built:
    """Two references, after the generated picture."""
    references = [reference_picture(), reference_picture()]
    return _flux3(Flux3AutoBlocks()), _call(image=references, **two_texts())


def flux3_distilled_edit() -> Built:
    """A flow map, told where each step goes; no guidance."""
    call = _call(image=reference_picture(), prompt_embeds=embeddings())
    return _flux3(Flux3DistilledAutoBlocks(), flow_map=True), call


BUILDERS = (flux3, flux3_edit, flux3_distilled_edit)


def _flux3(blocks: SequentialPipelineBlocks, **config: Any) -> DiffusionPipeline:
    torch.manual_seed(0)
    transformer = Flux3Transformer2DModel(
        in_channels=4,
        cond_in_channels=4,
        num_layers=1,
        num_single_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        timestep_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        **config,
    )
    for name in _OUTSIDE:
        blocks.sub_blocks.pop(name)
    pipe = blocks.init_pipeline()
    pipe.update_components(transformer=transformer, vae=flux2_vae(1), scheduler=flow_match_euler(shift=6.93))
    if "guider" in pipe.components:
        pipe.update_components(guider=ClassifierFreeGuidance(guidance_scale=3.5))
    return ready(pipe)


def _call(**more: Any) -> dict[str, Any]:
    return {"height": 16, "width": 32, "num_inference_steps": 3, "output": "latents", **more}
