"""Text and video in one softmax: CogVideoX, ConsisID, HunyuanVideo 1.5, Mochi, Motif-Video, EasyAnimate."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AdaptiveProjectedGuidance,
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLHunyuanVideo15,
    AutoencoderKLMagvit,
    AutoencoderKLMochi,
    AutoencoderKLWan,
    ClassifierFreeGuidance,
    CogVideoXFunControlPipeline,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    CogVideoXVideoToVideoPipeline,
    ConsisIDPipeline,
    ConsisIDTransformer3DModel,
    DDIMScheduler,
    EasyAnimateInpaintPipeline,
    EasyAnimatePipeline,
    EasyAnimateTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    HunyuanSkyreelsImageToVideoPipeline,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
    HunyuanVideoTransformer3DModel,
    MochiPipeline,
    MochiTransformer3DModel,
    MotifVideoImage2VideoPipeline,
    MotifVideoPipeline,
    MotifVideoTransformer3DModel,
)
from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel
from transformers.models.t5gemma2 import T5Gemma2Encoder, T5Gemma2EncoderConfig, T5Gemma2TextConfig

from pipelines import HUNYUAN_TRANSFORMER, HUNYUAN_VAE, WAN_VAE, Built, flow_match_euler, hunyuan_t2v, picture, ready

TEXT_TOKENS = 16
WIDTH = 32  # of the text embeddings


def cogvideox_t2v() -> Built:
    torch.manual_seed(0)
    return ready(_cogvideox(CogVideoXPipeline, in_channels=4)), _cogvideox_call()


def cogvideox_i2v() -> Built:
    """The reference in the channels."""
    torch.manual_seed(0)
    return ready(_cogvideox(CogVideoXImageToVideoPipeline, in_channels=8)), _cogvideox_call(image=picture(32, 16))


def cogvideox_v2v() -> Built:
    torch.manual_seed(0)
    call = _cogvideox_call(video=[picture(32, 16)] * 9, strength=1.0)
    del call["num_frames"]
    return ready(_cogvideox(CogVideoXVideoToVideoPipeline, in_channels=4)), call


def cogvideox_control() -> Built:
    torch.manual_seed(0)
    call = _cogvideox_call(control_video=[picture(32, 16)] * 9)
    del call["num_frames"]
    return ready(_cogvideox(CogVideoXFunControlPipeline, in_channels=8)), call


def consisid() -> Built:
    """A face that is to be kept; its guidance is batched and not announced."""
    torch.manual_seed(0)
    transformer = ConsisIDTransformer3DModel(
        **_COGVIDEOX | {"in_channels": 8},
        cross_attn_interval=1,
        is_kps=False,
        is_train_face=True,
        cross_attn_dim_head=1,
        cross_attn_num_heads=1,
        LFE_id_dim=2,
        LFE_vit_dim=2,
        LFE_depth=5,
        LFE_dim_head=8,
        LFE_num_heads=2,
        LFE_num_id_token=1,
        LFE_num_querie=1,
        LFE_output_dim=21,
        LFE_ff_mult=1,
        LFE_num_scale=1,
    )
    pipe = ConsisIDPipeline(None, None, _cogvideox_vae(), transformer, DDIMScheduler())
    face = {"id_vit_hidden": [torch.ones(1, 2, 2)], "id_cond": torch.ones(1, 2)}
    return ready(pipe), _cogvideox_call(image=picture(32, 16), **face)


def hunyuan15_t2v() -> Built:
    torch.manual_seed(0)
    pipe = _hunyuan15(HunyuanVideo15Pipeline)
    pipe.vision_num_semantic_tokens = 7  # zeroed tokens in the place of an image; 729 in the real one
    return ready(pipe), _hunyuan15_call(height=16, width=32)


def hunyuan15_i2v() -> Built:
    """The reference as SigLIP tokens at the head of the text, and in the channels."""
    torch.manual_seed(0)
    vision = {"hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    pipe = _hunyuan15(
        HunyuanVideo15ImageToVideoPipeline,
        image_encoder=SiglipVisionModel(SiglipVisionConfig(**vision, image_size=8, patch_size=4)),
        feature_extractor=SiglipImageProcessor(size={"height": 8, "width": 8}),
    )
    return ready(pipe), _hunyuan15_call(image=picture(32, 16))


def hunyuan_skyreels_i2v() -> Built:
    """The reference in the channels, the prompt in two passes."""
    torch.manual_seed(0)
    pipe = HunyuanSkyreelsImageToVideoPipeline(
        text_encoder=None,
        tokenizer=None,
        transformer=HunyuanVideoTransformer3DModel(**HUNYUAN_TRANSFORMER | {"in_channels": 8}),
        vae=AutoencoderKLHunyuanVideo(**HUNYUAN_VAE),
        scheduler=flow_match_euler(shift=7.0),
        text_encoder_2=None,
        tokenizer_2=None,
    )
    more = {"image": picture(32, 16), "num_inference_steps": 2, "guidance_scale": 1.0, "true_cfg_scale": 6.0}
    return ready(pipe), hunyuan_t2v()[1] | more


def mochi() -> Built:
    torch.manual_seed(0)
    transformer = MochiTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=3,
        pooled_projection_dim=16,
        text_embed_dim=WIDTH,
        time_embed_dim=4,
        max_sequence_length=TEXT_TOKENS,
    )
    vae = AutoencoderKLMochi(
        encoder_block_out_channels=(32,) * 4, decoder_block_out_channels=(32,) * 4, layers_per_block=(1,) * 5
    )
    pipe = MochiPipeline(FlowMatchEulerDiscreteScheduler(invert_sigmas=True), vae, None, None, transformer)
    masks = {f"{kind}prompt_attention_mask": _mask(valid) for kind, valid in (("", 12), ("negative_", 9))}
    return ready(pipe), _call(**masks, num_frames=7, guidance_scale=4.5)


def motif_t2v() -> Built:
    torch.manual_seed(0)
    return ready(_motif(MotifVideoPipeline)), _motif_call()


def motif_i2v() -> Built:
    """The reference as SigLIP tokens before the text, and in the channels; with a decoder and cross-attention."""
    torch.manual_seed(0)
    config = {"num_decoder_layers": 1, "enable_text_cross_attention_single": True}
    pipe = _motif(
        MotifVideoImage2VideoPipeline,
        config=config,
        feature_extractor=SiglipImageProcessor(size={"height": 16, "width": 16}),
    )
    return ready(pipe), _motif_call(image=picture(32, 16), prompt=None)


def easyanimate() -> Built:
    """Two double-stream blocks, and two single-stream ones; guidance in one batch, not announced."""
    torch.manual_seed(0)
    return ready(_easyanimate(EasyAnimatePipeline)), _easyanimate_call()


def easyanimate_inpaint() -> Built:
    """The mask and what it leaves of a video in the channels; a mask of one channel asks the autoencoder for a setting
    that it does not have.
    """
    torch.manual_seed(0)
    mask = torch.zeros(1, 1, 5, 16, 32)
    mask[..., 16:] = 255
    pipe = _easyanimate(EasyAnimateInpaintPipeline, in_channels=3 * 4, resize_inpaint_mask_directly=False)
    return ready(pipe), _easyanimate_call(video=torch.rand(1, 3, 5, 16, 32), mask_video=mask)


BUILDERS = (
    cogvideox_t2v,
    cogvideox_i2v,
    cogvideox_v2v,
    cogvideox_control,
    consisid,
    hunyuan15_t2v,
    hunyuan15_i2v,
    hunyuan_skyreels_i2v,
    mochi,
    motif_t2v,
    motif_i2v,
    easyanimate,
    easyanimate_inpaint,
)

_COGVIDEOX = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 4,
    "time_embed_dim": 2,
    "text_embed_dim": WIDTH,
    "num_layers": 3,
    "sample_width": 4,
    "sample_height": 2,
    "sample_frames": 9,
    "max_text_seq_length": TEXT_TOKENS,
    "use_rotary_positional_embeddings": True,
}


def _cogvideox(kind: type, *, in_channels: int) -> Any:
    transformer = CogVideoXTransformer3DModel(**_COGVIDEOX | {"in_channels": in_channels})
    return kind(None, None, _cogvideox_vae(), transformer, DDIMScheduler())


def _cogvideox_vae() -> AutoencoderKLCogVideoX:
    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8,) * 4,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    )


def _cogvideox_call(**more: Any) -> dict[str, Any]:
    return _call(num_frames=9, max_sequence_length=TEXT_TOKENS, **more)


def _hunyuan15(kind: type, **more: Any) -> Any:
    transformer = HunyuanVideo15Transformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=3,
        num_refiner_layers=1,
        mlp_ratio=2.0,
        text_embed_dim=WIDTH,
        text_embed_2_dim=16,
        image_embed_dim=12,
        rope_axes_dim=(2, 2, 4),
        target_size=32,
    )
    vae = AutoencoderKLHunyuanVideo15(
        latent_channels=4,
        block_out_channels=(16, 16),
        layers_per_block=1,
        spatial_compression_ratio=4,
        temporal_compression_ratio=2,
        downsample_match_channel=False,
        upsample_match_channel=False,
    )
    return kind(
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
        vae=vae,
        scheduler=flow_match_euler(shift=7.0),
        text_encoder_2=None,
        tokenizer_2=None,
        guider=ClassifierFreeGuidance(guidance_scale=6.0),
        **more,
    )


def _hunyuan15_call(**more: Any) -> dict[str, Any]:
    return {
        "prompt_embeds": torch.randn(1, TEXT_TOKENS, WIDTH),
        "prompt_embeds_mask": _mask(12),
        "negative_prompt_embeds": torch.randn(1, TEXT_TOKENS, WIDTH),
        "negative_prompt_embeds_mask": _mask(9),
        "prompt_embeds_2": torch.randn(1, 5, 16),
        "prompt_embeds_mask_2": torch.ones(1, 5),
        "negative_prompt_embeds_2": torch.randn(1, 5, 16),
        "negative_prompt_embeds_mask_2": torch.zeros(1, 5),
        "num_frames": 5,
        "num_inference_steps": 2,
        "output_type": "latent",
        **more,
    }


def _motif(kind: type, config: dict[str, Any] | None = None, **more: Any) -> Any:
    transformer = MotifVideoTransformer3DModel(
        in_channels=33,
        out_channels=16,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=3,
        num_single_layers=3,
        patch_size=1,
        text_embed_dim=WIDTH,
        image_embed_dim=4,
        rope_axes_dim=(4, 4, 4),
        **config or {},
    )
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text |= {"vocab_size": 16, "head_dim": 16, "num_key_value_heads": 2, "dropout_rate": 0.0}
    vision = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    encoder = T5Gemma2Encoder(
        T5Gemma2EncoderConfig(
            text_config=T5Gemma2TextConfig(**text),
            vision_config=SiglipVisionConfig(**vision, image_size=16, patch_size=4),
        )
    )
    return kind(
        scheduler=flow_match_euler(shift=7.0),
        vae=AutoencoderKLWan(**WAN_VAE),
        text_encoder=encoder,
        tokenizer=None,
        transformer=transformer,
        guider=AdaptiveProjectedGuidance(),
        **more,
    )


def _motif_call(**more: Any) -> dict[str, Any]:
    masks = {f"{kind}prompt_attention_mask": _mask(valid) for kind, valid in (("", 12), ("negative_", 9))}
    call = _call(**masks, num_frames=9, **more)
    del call["guidance_scale"]
    return call


def _easyanimate(kind: type, **config: Any) -> Any:
    transformer = EasyAnimateTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        **{"in_channels": 4} | config,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=WIDTH,
        num_layers=4,
        mmdit_layers=2,
        patch_size=2,
        sample_width=16,
        sample_height=16,
    )
    vae = AutoencoderKLMagvit(
        latent_channels=4,
        block_out_channels=(8,) * 4,
        layers_per_block=1,
        norm_num_groups=2,
        spatial_group_norm=False,
        down_block_types=("SpatialDownBlock3D", *("SpatialTemporalDownBlock3D",) * 3),
        up_block_types=("SpatialUpBlock3D", *("SpatialTemporalUpBlock3D",) * 3),
    )
    return kind(vae, None, None, transformer, FlowMatchEulerDiscreteScheduler())


def _easyanimate_call(**more: Any) -> dict[str, Any]:
    masks = {f"{kind}prompt_attention_mask": _mask(TEXT_TOKENS) for kind in ("", "negative_")}
    return _call(**masks, num_frames=5, **more)


def _call(**more: Any) -> dict[str, Any]:
    return {
        "prompt_embeds": torch.randn(1, TEXT_TOKENS, WIDTH),
        "negative_prompt_embeds": torch.randn(1, TEXT_TOKENS, WIDTH),
        "height": 16,
        "width": 32,
        "num_inference_steps": 2,
        "guidance_scale": 6.0,
        "output_type": "latent",
        **more,
    }


def _mask(valid: int) -> torch.Tensor:
    return (torch.arange(TEXT_TOKENS) < valid).long().unsqueeze(0)
