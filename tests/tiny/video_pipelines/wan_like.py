"""Pipelines on Wan and on transformers built like it."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AnyFlowFARPipeline,
    AnyFlowFARTransformer3DModel,
    AnyFlowPipeline,
    AnyFlowTransformer3DModel,
    AutoencoderKLWan,
    ChronoEditPipeline,
    ChronoEditTransformer3DModel,
    FlowMapEulerDiscreteScheduler,
    HeliosPipeline,
    HeliosPyramidPipeline,
    HeliosScheduler,
    HeliosTransformer3DModel,
    LucyEditPipeline,
    SkyReelsV2DiffusionForcingImageToVideoPipeline,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2DiffusionForcingVideoToVideoPipeline,
    SkyReelsV2ImageToVideoPipeline,
    SkyReelsV2Pipeline,
    SkyReelsV2Transformer3DModel,
    WanAnimatePipeline,
    WanAnimateTransformer3DModel,
    WanTransformer3DModel,
    WanVideoToVideoPipeline,
)
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from pipelines import WAN_TRANSFORMER, WAN_VAE, Built, flow_match_euler, picture, ready, unipc, wan_t2v

CLIP_KEYS = {"in_channels": 36, "image_dim": 4, "added_kv_proj_dim": 24}


def wan_v2v() -> Built:
    torch.manual_seed(0)
    call = _call(video=[picture(32, 16)] * 9, strength=1.0)
    del call["num_frames"]
    return ready(_pipeline(WanVideoToVideoPipeline, WanTransformer3DModel(**WAN_TRANSFORMER))), call


def lucy_edit() -> Built:
    """Wan 2.2 5B, with the video that is edited in the channels."""
    torch.manual_seed(0)
    transformer = WanTransformer3DModel(**WAN_TRANSFORMER | {"in_channels": 32})
    return ready(_pipeline(LucyEditPipeline, transformer)), _call(video=[picture(32, 16)] * 9)


def wan_animate() -> Built:
    """The reference as the first latent frame, as CLIP keys and in the channels; the face's motion in every block."""
    torch.manual_seed(0)
    transformer = WanAnimateTransformer3DModel(
        **WAN_TRANSFORMER | CLIP_KEYS,
        latent_channels=16,
        motion_encoder_channel_sizes={"4": 16, "8": 16, "16": 16},
        motion_encoder_size=16,
        motion_style_dim=8,
        motion_dim=4,
        motion_encoder_dim=16,
        face_encoder_hidden_dim=16,
        face_encoder_num_heads=2,
        inject_face_latents_blocks=1,
    )
    call = _call(
        text_tokens=512,
        image=picture(32, 16),
        pose_video=[picture(32, 16)] * 5,
        face_video=[picture(16, 16)] * 5,
        segment_frame_length=5,
        guidance_scale=2.0,
    )
    del call["num_frames"]
    return ready(_pipeline(WanAnimatePipeline, transformer, **_clip())), call


def chronoedit() -> Built:
    torch.manual_seed(0)
    transformer = ChronoEditTransformer3DModel(**WAN_TRANSFORMER | CLIP_KEYS)
    call = _call(text_tokens=512, image=picture(32, 16), num_frames=5)
    return ready(_pipeline(ChronoEditPipeline, transformer, **_clip())), call


def skyreels_t2v() -> Built:
    torch.manual_seed(0)
    return ready(_pipeline(SkyReelsV2Pipeline, _skyreels())), _call()


def skyreels_i2v() -> Built:
    """The reference as CLIP keys and in the channels."""
    torch.manual_seed(0)
    pipe = _pipeline(SkyReelsV2ImageToVideoPipeline, _skyreels(**CLIP_KEYS), **_clip())
    return ready(pipe), _call(text_tokens=512, image=picture(32, 16))


def skyreels_df_t2v() -> Built:
    torch.manual_seed(0)
    return ready(_pipeline(SkyReelsV2DiffusionForcingPipeline, _skyreels())), _call(prompt=None)


def skyreels_df_t2v_asynchronous() -> Built:
    """Later frames lag behind earlier ones in noise level."""
    torch.manual_seed(0)
    return ready(_pipeline(SkyReelsV2DiffusionForcingPipeline, _skyreels())), _call(
        prompt=None, ar_step=1, causal_block_size=1
    )


def skyreels_df_i2v() -> Built:
    """The reference is the clean first latent frame."""
    torch.manual_seed(0)
    pipe = _pipeline(SkyReelsV2DiffusionForcingImageToVideoPipeline, _skyreels())
    return ready(pipe), _call(image=picture(32, 16))


def skyreels_df_v2v() -> Built:
    torch.manual_seed(0)
    pipe = _pipeline(SkyReelsV2DiffusionForcingVideoToVideoPipeline, _skyreels())
    return ready(pipe), _call(video=[picture(32, 16)] * 5, overlap_history=1)


def helios() -> Built:
    """Two chunks: the second looks back on the first."""
    torch.manual_seed(0)
    return _helios(HeliosPipeline, HeliosScheduler(stage_range=[0, 1], stages=1)), _helios_call()


def helios_pyramid() -> Built:
    """Two chunks, each in a stage of half the size and one of the full size.

    With the scheduler's own gamma of 1/3 the noise between stages has a covariance that is singular; where it cannot be
    factorised is a matter of rounding.
    """
    torch.manual_seed(0)
    scheduler = HeliosScheduler(stage_range=[0, 1 / 2, 1], stages=2, gamma=0.3)
    call = _helios_call(height=32, width=64, pyramid_num_inference_steps_list=[1, 2])
    del call["num_inference_steps"]
    return _helios(HeliosPyramidPipeline, scheduler), call


def anyflow() -> Built:
    torch.manual_seed(0)
    config = {key: value for key, value in WAN_TRANSFORMER.items() if key != "qk_norm"}
    transformer = AnyFlowTransformer3DModel(**config, gate_value=0.25, deltatime_type="r")
    pipe = _pipeline(AnyFlowPipeline, transformer)
    pipe.scheduler = FlowMapEulerDiscreteScheduler(shift=5.0)
    return ready(pipe), _call()


def anyflow_far() -> Built:
    """Two chunks of one latent frame, the second looking back on keys that were kept of the first."""
    torch.manual_seed(0)
    config = {key: value for key, value in WAN_TRANSFORMER.items() if key != "qk_norm"}
    transformer = AnyFlowFARTransformer3DModel(
        **config,
        chunk_partition=(1, 1),
        full_chunk_limit=2,
        compressed_patch_size=(1, 2, 2),
        gate_value=0.25,
        deltatime_type="r",
    )
    pipe = _pipeline(AnyFlowFARPipeline, transformer)
    pipe.scheduler = FlowMapEulerDiscreteScheduler(shift=5.0)
    return ready(pipe), _call(num_frames=5)


BUILDERS = (
    wan_v2v,
    lucy_edit,
    wan_animate,
    chronoedit,
    skyreels_t2v,
    skyreels_i2v,
    skyreels_df_t2v,
    skyreels_df_i2v,
    skyreels_df_v2v,
    helios,
    helios_pyramid,
    anyflow,
    anyflow_far,
)


def _pipeline(kind: type, transformer: Any, **more: Any) -> Any:
    return kind(
        tokenizer=None,
        text_encoder=None,
        vae=AutoencoderKLWan(**WAN_VAE),
        scheduler=flow_match_euler(shift=7.0) if kind is ChronoEditPipeline else unipc(flow_shift=3.0),
        transformer=transformer,
        **more,
    )


def _helios(kind: type, scheduler: HeliosScheduler) -> Any:
    config = {key: value for key, value in WAN_TRANSFORMER.items() if key != "rope_max_seq_len"}
    pipe = _pipeline(kind, HeliosTransformer3DModel(**config, rope_dim=(4, 4, 4), is_amplify_history=True))
    pipe.scheduler = scheduler
    return ready(pipe)


def _helios_call(**more: Any) -> dict[str, Any]:
    return _call(num_frames=13, num_latent_frames_per_chunk=3, history_sizes=[4, 2, 1], **more)


def _skyreels(**config: Any) -> SkyReelsV2Transformer3DModel:
    return SkyReelsV2Transformer3DModel(**WAN_TRANSFORMER | config)


def _clip() -> dict[str, Any]:
    vision = {"hidden_size": 4, "projection_dim": 4, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPVisionConfig(**vision, image_size=4, intermediate_size=16, patch_size=1)
    return {
        "image_processor": CLIPImageProcessor(crop_size=4, size=4),
        "image_encoder": CLIPVisionModelWithProjection(config),
    }


def _call(*, text_tokens: int = 24, **more: Any) -> dict[str, Any]:
    """As of Wan's text-to-video."""
    text = {f"{kind}prompt_embeds": torch.randn(1, text_tokens, 32) for kind in ("", "negative_")}
    return wan_t2v()[1] | text | {"num_inference_steps": 2} | more
