"""Flux 3 and Ideogram 4: modular pipelines, without what writes longer prompts or decodes the picture."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    ClassifierFreeGuidance,
    DiffusionPipeline,
    Flux3AutoBlocks,
    Flux3DistilledAutoBlocks,
    Flux3Transformer2DModel,
    Ideogram4AutoBlocks,
    Ideogram4Pipeline,
    Ideogram4Transformer2DModel,
)
from diffusers.modular_pipelines import SequentialPipelineBlocks
from transformers import Qwen3VLConfig, Qwen3VLModel

from image_pipelines import WIDTH, embeddings, flux2_vae, reference_picture, two_texts
from pipelines import Built, flow_match_euler, ready
from tiny_qwen import build_tokenizer


def flux3() -> Built:
    return _flux3(Flux3AutoBlocks()), _call(**two_texts())


def flux3_edit() -> Built:
    """Two references, after the generated picture."""
    references = [reference_picture(), reference_picture()]
    return _flux3(Flux3AutoBlocks()), _call(image=references, **two_texts())


def flux3_distilled_edit() -> Built:
    """A flow map, given where each step ends; no guidance."""
    call = _call(image=reference_picture(), prompt_embeds=embeddings())
    return _flux3(Flux3DistilledAutoBlocks(), flow_map=True), call


def ideogram4() -> Built:
    """Guidance with a transformer of its own; a text with padding before it."""
    call = _ideogram4_call(output_type="latent", guidance_scale=4.0, guidance_schedule=None)
    return ready(Ideogram4Pipeline(**_ideogram4_parts())), call


def ideogram4_modular() -> Built:
    """Without a decoder, 8 pixels are taken for a latent."""
    pipe = _without(Ideogram4AutoBlocks(), "prompt_upsample", "decode")
    pipe.update_components(**{name: part for name, part in _ideogram4_parts().items() if name in pipe.components})
    sizes = {"height": 32, "width": 64}
    return ready(pipe), _ideogram4_call(output="latents", guidance_schedule=[4.0] * 3, **sizes)


BUILDERS = (flux3, flux3_edit, flux3_distilled_edit, ideogram4, ideogram4_modular)


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
    pipe = _without(blocks, "prompt_upsampler", "text_encoder", "decode")
    pipe.update_components(transformer=transformer, vae=flux2_vae(1), scheduler=flow_match_euler(shift=6.93))
    if "guider" in pipe.components:
        pipe.update_components(guider=ClassifierFreeGuidance(guidance_scale=3.5))
    return ready(pipe)


def _without(blocks: SequentialPipelineBlocks, *steps: str) -> DiffusionPipeline:
    for step in steps:
        blocks.sub_blocks.pop(step)
    return blocks.init_pipeline()


def _call(**more: Any) -> dict[str, Any]:
    return {"height": 16, "width": 32, "num_inference_steps": 3, "output": "latents", **more}


def _ideogram4_parts() -> dict[str, Any]:
    torch.manual_seed(0)
    tokenizer, width = build_tokenizer(), 8
    layers = {"hidden_size": width, "intermediate_size": 8, "num_attention_heads": 1, "num_key_value_heads": 1}
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True, "rope_theta": 1e6}
    config = Qwen3VLConfig(
        text_config=layers
        | {"vocab_size": len(tokenizer), "head_dim": 8, "num_hidden_layers": 36, "rope_parameters": rope},
        vision_config={"depth": 1, "hidden_size": 8, "intermediate_size": 8, "num_heads": 1, "out_hidden_size": width},
    )
    return {
        "transformer": _ideogram4_transformer(width),
        "unconditional_transformer": _ideogram4_transformer(width),
        "text_encoder": Qwen3VLModel(config),
        "tokenizer": tokenizer,
        "vae": flux2_vae(1),
        "scheduler": flow_match_euler(shift=1.0),
    }


def _ideogram4_transformer(width: int) -> Ideogram4Transformer2DModel:
    return Ideogram4Transformer2DModel(
        in_channels=4,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        intermediate_size=32,
        adaln_dim=16,
        llm_features_dim=13 * width,  # of the layers that are read
        mrope_section=(4, 2, 2),
    )


def _ideogram4_call(**more: Any) -> dict[str, Any]:
    call = {"height": 16, "width": 32, "num_inference_steps": 3, "max_sequence_length": 40}
    return call | {"prompt": "a cat puts on sunglasses", **more}
