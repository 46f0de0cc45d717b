"""Modular pipelines: their denoising, between the encoders and the decoders that they borrow from others."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    ClassifierFreeGuidance,
    MiniMaxH3Scheduler,
    MiniMaxH3Transformer3DModel,
    WanAnimate2Transformer3DModel,
)
from diffusers.models.transformers import transformer_wan_animate_2
from diffusers.modular_pipelines import SequentialPipelineBlocks
from diffusers.modular_pipelines.minimax_h3 import before_denoise as h3
from diffusers.modular_pipelines.minimax_h3.denoise import MiniMaxH3DenoiseStep
from diffusers.modular_pipelines.wan_animate_2 import denoise as animate

from pipelines import Built, awoken, flow_match_euler, ready

TEXT_TOKENS = 5
WIDTH = 16  # of the text embeddings
_LAYOUT = ("position_ids", "token_tags", "video_indices", "audio_indices", "text_indices")
_PATCH = 24 * 1 * 2 * 2  # channels, frames, rows, columns

_create_block_mask = transformer_wan_animate_2.create_block_mask
transformer_wan_animate_2.create_block_mask = lambda *args, **options: _create_block_mask(
    *args,
    **options | {"_compile": False},  # compiling takes longer than all the rest
)


class AnimateSegments(animate.WanAnimate2SegmentLoopWrapper):
    """One segment: keys of the driving video, then the steps."""

    block_classes = [  # noqa: RUF012  # as diffusers has it
        animate.WanAnimate2SegmentPrepareStep,
        animate.WanAnimate2SegmentSchedulerResetStep,
        animate.WanAnimate2RefExtractStep,
        animate.WanAnimate2SegmentDenoiseInner,
    ]
    block_names = ["prepare", "scheduler_reset", "ref_extract", "denoise_inner"]  # noqa: RUF012


def minimax_h3_fl2v() -> Built:
    """A first frame is given, between the text and the sound."""
    step = h3.MiniMaxH3PrepareLayoutStep
    *layout, frames, sounds = step.build_packed_sequence(
        torch.ones(TEXT_TOKENS), 2, 4, 8, 3, (1, 2, 2), 2, 2, 0, keyframe_anchors=("first",)
    )
    fields = dict(zip(_LAYOUT, layout, strict=True))
    call = {name: rows for name, rows in fields.items() if name.endswith("_indices")}
    call["denoiser_input_fields"] = fields
    call |= {"num_condition_video_rows": frames, "num_condition_audio_rows": sounds}
    call |= {"num_latent_frames": 2, "latent_height": 4, "latent_width": 8, "num_audio_latents": 3}
    torch.manual_seed(0)
    call |= {"condition_rows": torch.randn(frames, _PATCH), "prompt_embeds": torch.randn(1, TEXT_TOKENS, WIDTH)}
    return _h3(), call | {"num_inference_steps": 3, "output": "latents"}


def wan_animate2() -> Built:
    """Three latent frames of 2x4 tokens in the driving video; one more, the reference's, in what is made."""
    torch.manual_seed(0)
    transformer = WanAnimate2Transformer3DModel(
        in_dim=36, dim=32, ffn_dim=32, freq_dim=16, text_dim=WIDTH, text_len=24, num_heads=2, num_layers=3
    )
    blocks = SequentialPipelineBlocks.from_blocks_dict({"segments": AnimateSegments()})
    pipe = blocks.init_pipeline()
    pipe.update_components(
        transformer=awoken(transformer),
        scheduler=flow_match_euler(shift=5.0),
        guider=ClassifierFreeGuidance(guidance_scale=3.0),
    )
    texts = {f"{kind}_embeds": torch.randn(1, 24, WIDTH) for kind in ("prompt", "negative_prompt", "prompt_ref")}
    clip = torch.randn(1, 5, 1280)
    return ready(pipe), {
        **texts,
        "condition_clip_context": clip,
        "denoiser_input_fields": {"encoder_hidden_states_image": clip},
        "driving_video_latents": torch.randn(1, 16, 3, 4, 8),
        "driving_video_condition": torch.randn(20, 3, 4, 8),
        "reference_latents": torch.randn(20, 4, 4, 8),
        "grid_sizes_ref": torch.tensor([[3, 2, 4]]),
        "max_seq_len_ref": 3 * 2 * 4,
        "max_seq_len": 4 * 2 * 4,
        "num_segments": 1,
        "segment_frame_length": 9,
        "height": 32,
        "width": 64,
        "num_inference_steps": 2,
        "output": "latents",
    }


BUILDERS = (minimax_h3_fl2v, wan_animate2)


def _h3() -> Any:
    torch.manual_seed(0)
    transformer = MiniMaxH3Transformer3DModel(
        num_attention_heads=2,
        attention_head_dim=24,
        hidden_size=32,
        num_layers=3,
        num_refiner_layers=1,
        ffn_dim=32,
        in_channels=24,
        audio_in_channels=32,
        text_dim=WIDTH,
        freq_dim=16,
        time_embed_hidden_dim=16,
        time_embed_dim=16,
        rope_freq_dim=4,
    )
    steps = {
        "latents": h3.MiniMaxH3PrepareLatentsStep(),
        "given": h3.MiniMaxH3FL2VAPrepareLatentsStep(),
        "timesteps": h3.MiniMaxH3SetTimestepsStep(),
        "denoise": MiniMaxH3DenoiseStep(),
    }
    pipe = SequentialPipelineBlocks.from_blocks_dict(steps).init_pipeline()
    schedulers = {"scheduler": MiniMaxH3Scheduler(), "audio_scheduler": MiniMaxH3Scheduler()}
    pipe.update_components(transformer=transformer, **schedulers)
    return ready(pipe)
