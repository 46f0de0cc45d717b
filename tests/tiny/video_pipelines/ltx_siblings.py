"""Pipelines on the transformers of LTX-Video and LTX-2 that make a video in windows, with keyframes or a memory."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from diffusers import (
    LTX2DFRPipeline,
    LTX2DFRTemporalRefinePipeline,
    LTXEulerAncestralRFScheduler,
    LTXI2VLongMultiPromptPipeline,
)
from diffusers.modular_pipelines import SequentialPipelineBlocks
from diffusers.modular_pipelines.echo import before_denoise as echo_steps
from diffusers.modular_pipelines.echo.denoise import EchoDenoiseLoopStep
from diffusers.pipelines.ltx2.dfr_layout import LTX2DFREpilogueTile
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition

from pipelines import Built, awoken, picture, ready
from text_encoders import t5
from video_pipelines.ltx import ltx2_t2v, ltx_t2v

TEXT_TOKENS = 24


def ltx_long_multi_prompt() -> Built:
    """Two windows, each with a prompt of its own: the first from an image, the second from the end of the first too."""
    pipe, call = ltx_t2v()
    encoder, tokenizer = t5(call["prompt_embeds"].shape[-1])
    parts = {"text_encoder": encoder, "tokenizer": tokenizer, "scheduler": LTXEulerAncestralRFScheduler()}
    sizes = {"height": 32, "width": 64, "num_frames": 17, "temporal_tile_size": 12, "temporal_overlap": 4}
    return _with_parts(LTXI2VLongMultiPromptPipeline, pipe, **parts), {
        **sizes,
        "prompt": "a cat sleeps | a cat wakes up",
        "negative_prompt": "blurred",
        "cond_image": picture(64, 32),
        "guidance_scale": 3.0,
        "sigmas": [1.0, 0.6, 0.0],
        "max_sequence_length": TEXT_TOKENS,
    }


def ltx2_dfr() -> Built:
    """A first frame and a later one given, one keyframe made, and a video of half the size to follow."""
    pipe, call = ltx2_t2v()
    conditions = [
        LTX2VideoCondition(frames=picture(64, 32), crf=0),
        LTX2VideoCondition(frames=picture(64, 32, colour=(20, 80, 160)), index=3, crf=0),
    ]
    call = _dfr_call(call, conditions=conditions, reference_latents=torch.randn(1, 4, 5, 2, 4))
    return _with_parts(LTX2DFRPipeline, pipe, transformer=_with_keyframes(pipe)), call


def ltx2_dfr_tiles() -> Built:
    """In two tiles that overlap by a frame; each is a forward."""
    pipe, call = ltx2_dfr()
    weights = torch.ones(3, 4, 8) * torch.tensor([1.0, 1.0, 0.5])[:, None, None]
    parts = ((slice(0, 3), weights), (slice(2, 5), weights.flip(0)))
    tiles = [LTX2DFREpilogueTile(frames, slice(0, 4), slice(0, 8), weight) for frames, weight in parts]
    return pipe, call | {"video_tiles": tiles}


def ltx2_dfr_refine() -> Built:
    """Twice as many frames, in two tiles of their own schedule; keyframes are given and made, sound is kept."""
    pipe, call = ltx2_t2v()
    upsampler = LTX2LatentUpsamplerModel(
        in_channels=4, mid_channels=32, num_blocks_per_stage=1, spatial_upsample=False, temporal_upsample=True
    )
    parts = {"temporal_latent_upsampler": upsampler.eval(), "scheduler": LTXEulerAncestralRFScheduler(eta=0.5)}
    made = {
        "latents": torch.randn(1, 4, 7, 4, 8),
        "keyframes_latents": torch.randn(1, 4, 2, 4, 8),
        "keyframe_positions": [6, 12],
        "audio_latents": torch.randn(1, 2, 14, 2),
    }
    call = _dfr_call(call, **made, num_frames=13, conditions=[LTX2VideoCondition(frames=picture(64, 32), crf=0)])
    return _with_parts(LTX2DFRTemporalRefinePipeline, pipe, transformer=_with_keyframes(pipe), **parts), call


def echo() -> Built:
    """A first frame, two pictures and a sound to remember."""
    source, call = ltx2_t2v()
    steps = {
        "conditions": echo_steps.EchoPrepareConditioningStep(),
        "inputs": echo_steps.EchoInputsStep(),
        "latents": echo_steps.EchoPrepareLatentsStep(),
        "denoise": EchoDenoiseLoopStep(),
    }
    pipe = SequentialPipelineBlocks.from_blocks_dict(steps).init_pipeline()
    pipe.update_components(transformer=source.transformer)
    text = call["prompt_embeds"]
    return ready(pipe), {
        "connector_prompt_embeds": text,
        "connector_audio_prompt_embeds": text,
        "connector_attention_mask": call["prompt_attention_mask"],
        "first_frame_latents": torch.randn(1, 4, 1, 4, 8),
        "memory_video_latents": [torch.randn(1, 4, 1, 4, 8), torch.randn(1, 4, 1, 4, 8)],
        "memory_audio_latents": [torch.randn(1, 2, 5, 2)],
        "height": 4 * 32,
        "width": 8 * 32,
        "num_frames": 1 + 2 * 8,
        "sigmas": [1.0, 0.6, 0.0],
        "output": "latents",
    }


BUILDERS = (ltx_long_multi_prompt, ltx2_dfr, ltx2_dfr_refine, echo)


def _with_parts(kind: type, pipe: Any, **parts: Any) -> Any:
    known = inspect.signature(kind).parameters
    return ready(kind(**{name: part for name, part in {**pipe.components, **parts}.items() if name in known}))


def _with_keyframes(pipe: Any) -> Any:
    """The transformer that marks keyframes."""
    config = {key: value for key, value in pipe.transformer.config.items() if not key.startswith("_")}
    return awoken(type(pipe.transformer).from_config(config | {"use_keyframes_abs_pos_embedding": True}))


def _dfr_call(call: dict[str, Any], **more: Any) -> dict[str, Any]:
    known = ("prompt_embeds", "prompt_attention_mask", "height", "width", "num_frames", "output_type")
    return {name: call[name] for name in known} | {"sigmas": [1.0, 0.6]} | more
