"""LTX-Video and LTX-2."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTX2ConditionPipeline,
    LTX2HDRPipeline,
    LTX2ImageToVideoPipeline,
    LTX2InContextPipeline,
    LTX2Pipeline,
    LTX2VideoTransformer3DModel,
    LTXConditionPipeline,
    LTXImageToVideoPipeline,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from diffusers.pipelines.ltx2.pipeline_ltx2_hdr_lora import LTX2HDRReferenceCondition
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2ReferenceCondition
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder

from pipelines import Built, picture, ready

TEXT_TOKENS = 16
WIDTH = 32  # of the text embeddings
_LTX2_ROTARY = {"rope_double_precision": False, "rope_type": "split"}


def ltx_t2v() -> Built:
    torch.manual_seed(0)
    return ready(_ltx(LTXPipeline)), _ltx_call()


def ltx_i2v() -> Built:
    """The reference is the clean first latent frame."""
    torch.manual_seed(0)
    return ready(_ltx(LTXImageToVideoPipeline)), _ltx_call(image=picture(64, 32))


def ltx_condition() -> Built:
    """A condition on the first frame, in its place, and one on a later frame, put before the sequence."""
    torch.manual_seed(0)
    conditions = [
        LTXVideoCondition(image=picture(64, 32)),
        LTXVideoCondition(image=picture(64, 32, colour=(20, 80, 160)), frame_index=8),
    ]
    return ready(_ltx(LTXConditionPipeline)), _ltx_call(conditions=conditions)


def ltx2_t2v() -> Built:
    torch.manual_seed(0)
    return ready(_ltx2(LTX2Pipeline)), _ltx2_call()


def ltx2_i2v() -> Built:
    """The reference is the clean first latent frame."""
    torch.manual_seed(0)
    call = _ltx2_call(image=torch.rand(1, 3, 32, 64), image_crf=0)
    return ready(_ltx2(LTX2ImageToVideoPipeline)), call


def ltx2_condition() -> Built:
    """A condition on the first frames, in their place, and one on a later frame, put behind the sequence."""
    torch.manual_seed(0)
    conditions = [
        LTX2VideoCondition(frames=[picture(64, 32)] * 3),
        LTX2VideoCondition(frames=picture(64, 32, colour=(20, 80, 160)), index=3, crf=0),
    ]
    return ready(_ltx2(LTX2ConditionPipeline)), _ltx2_call(conditions=conditions)


def ltx2_in_context() -> Built:
    """A first frame, and a reference video behind the sequence, for a LoRA that learned to follow it."""
    torch.manual_seed(0)
    references = {
        "conditions": [LTX2VideoCondition(frames=picture(64, 32, colour=(20, 80, 160)), crf=0)],
        "reference_conditions": [LTX2ReferenceCondition(frames=[picture(64, 32)] * 3)],
    }
    return ready(_ltx2(LTX2InContextPipeline)), _ltx2_call(**references, num_frames=5)


def ltx2_hdr() -> Built:
    """Bright and dark regained after a reference video; no sound, and guidance is off."""
    torch.manual_seed(0)
    reference = LTX2HDRReferenceCondition(frames=[picture(64, 32)] * 3)
    call = _ltx2_call(reference_conditions=[reference], num_frames=5)
    return ready(_ltx2(LTX2HDRPipeline)), {key: value for key, value in call.items() if not key.startswith("audio_")}


BUILDERS = (ltx_t2v, ltx_i2v, ltx_condition, ltx2_t2v, ltx2_i2v, ltx2_condition, ltx2_in_context, ltx2_hdr)


def _ltx(kind: type) -> Any:
    transformer = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=3,
        caption_channels=WIDTH,
    )
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5,
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1,) * 4,
        patch_size=4,
        patch_size_t=1,
    )
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
    return kind(FlowMatchEulerDiscreteScheduler(), vae, None, None, transformer)


def _ltx_call(**more: Any) -> dict[str, Any]:
    return {
        **_text(),
        "height": 32,
        "width": 64,
        "num_frames": 9,
        "num_inference_steps": 2,
        "guidance_scale": 3.0,
        "output_type": "latent",
        **more,
    }


def _ltx2(kind: type) -> Any:
    return kind(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=ltx2_vae(),
        audio_vae=_ltx2_audio_vae(),
        text_encoder=None,
        tokenizer=None,
        connectors=ltx2_connectors(),
        transformer=ltx2_transformer(LTX2VideoTransformer3DModel),
        vocoder=_ltx2_vocoder(),
    )


def ltx2_vae() -> AutoencoderKLLTX2Video:
    vae = AutoencoderKLLTX2Video(
        latent_channels=4,
        block_out_channels=(8,),
        decoder_block_out_channels=(8,),
        layers_per_block=(1,),
        decoder_layers_per_block=(1, 1),
        spatio_temporal_scaling=(True,),
        decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False),
        downsample_type=("spatial",),
        upsample_residual=(False,),
        upsample_factor=(1,),
        patch_size=4,
        patch_size_t=1,
    )
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
    return vae


def _ltx2_audio_vae() -> AutoencoderKLLTX2Audio:
    return AutoencoderKLLTX2Audio(
        base_channels=4,
        ch_mult=(1,),
        num_res_blocks=1,
        resolution=32,
        latent_channels=2,
        norm_type="pixel",
        causality_axis="height",
        mid_block_add_attention=False,
        mel_bins=8,
    )


def ltx2_connectors() -> LTX2TextConnectors:
    attention = {"num_attention_heads": 4, "attention_head_dim": 8, "num_layers": 1, "num_learnable_registers": None}
    return LTX2TextConnectors(
        caption_channels=WIDTH,
        text_proj_in_factor=1,
        connector_rope_base_seq_len=32,
        **_LTX2_ROTARY,
        **{f"{name}_connector_{key}": value for name in ("video", "audio") for key, value in attention.items()},
    )


def ltx2_transformer(kind: type) -> Any:
    return kind(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        audio_in_channels=4,
        audio_out_channels=4,
        audio_num_attention_heads=2,
        audio_attention_head_dim=4,
        audio_cross_attention_dim=8,
        num_layers=3,
        caption_channels=WIDTH,
        **_LTX2_ROTARY,
    )


def _ltx2_vocoder() -> LTX2Vocoder:
    return LTX2Vocoder(
        in_channels=16,
        hidden_channels=32,
        upsample_kernel_sizes=[4, 4],
        upsample_factors=[2, 2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1, 3, 5]],
        output_sampling_rate=16000,
    )


def _ltx2_call(**more: Any) -> dict[str, Any]:
    return {
        **_text(),
        "height": 32,
        "width": 64,
        "num_frames": 9,
        "num_inference_steps": 2,
        "guidance_scale": 3.0,
        "stg_scale": 0.0,
        "modality_scale": 1.0,
        "audio_stg_scale": 0.0,
        "audio_modality_scale": 1.0,
        "spatio_temporal_guidance_blocks": None,
        "output_type": "latent",
        **more,
    }


def _text() -> dict[str, Any]:
    mask = torch.ones(1, TEXT_TOKENS, dtype=torch.bool)
    return {
        "prompt_embeds": torch.randn(1, TEXT_TOKENS, WIDTH),
        "prompt_attention_mask": mask,
        "negative_prompt_embeds": torch.randn(1, TEXT_TOKENS, WIDTH),
        "negative_prompt_attention_mask": mask,
    }
