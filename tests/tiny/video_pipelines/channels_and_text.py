"""Pipelines with norms of their own kind, or none: Kandinsky 5 and 6, Sana-Video, Allegro, Latte."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AllegroPipeline,
    AllegroTransformer3DModel,
    AutoencoderKL,
    AutoencoderKLAllegro,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLWan,
    DDIMScheduler,
    Kandinsky5I2VPipeline,
    Kandinsky5T2VPipeline,
    Kandinsky5Transformer3DModel,
    Kandinsky6TI2VAPipeline,
    Kandinsky6Transformer3DModel,
    LattePipeline,
    LatteTransformer3DModel,
    MMAudioVAE,
    MMAudioVocoder,
    SanaImageToVideoPipeline,
    SanaVideoPipeline,
    SanaVideoTransformer3DModel,
)

from pipelines import WAN_VAE, Built, awoken, flow_match_euler, picture, ready

TEXT_TOKENS = 16
WIDTH = 24  # of the text embeddings


def kandinsky5_t2v() -> Built:
    torch.manual_seed(0)
    return ready(_kandinsky5(Kandinsky5T2VPipeline, has_reference=False)), _kandinsky5_call()


def kandinsky5_i2v() -> Built:
    """The reference is the clean first latent frame, and lies in the channels."""
    torch.manual_seed(0)
    return ready(_kandinsky5(Kandinsky5I2VPipeline, has_reference=True)), _kandinsky5_call(image=picture(64, 32))


def kandinsky6_t2v() -> Built:
    torch.manual_seed(0)
    return ready(_kandinsky6()), _kandinsky6_call()


def kandinsky6_i2v() -> Built:
    """The reference is a clean latent frame behind the others."""
    torch.manual_seed(0)
    return ready(_kandinsky6()), _kandinsky6_call(image=picture(64, 32))


def sana_video_t2v() -> Built:
    torch.manual_seed(0)
    return ready(_sana(SanaVideoPipeline, qk_norm="rms_norm_across_heads")), _sana_call()


def sana_video_t2v_without_norms() -> Built:
    torch.manual_seed(0)
    return ready(_sana(SanaVideoPipeline, qk_norm=None)), _sana_call()


def sana_video_i2v() -> Built:
    """The reference is the clean first latent frame, which linear attention sees."""
    torch.manual_seed(0)
    return ready(_sana(SanaImageToVideoPipeline, qk_norm="rms_norm_across_heads")), _sana_call(image=picture(64, 32))


def allegro() -> Built:
    torch.manual_seed(0)
    transformer = AllegroTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        num_layers=3,
        cross_attention_dim=24,
        sample_width=8,
        sample_height=8,
        sample_frames=8,
        caption_channels=WIDTH,
    )
    vae = AutoencoderKLAllegro(
        down_block_types=("AllegroDownBlock3D",) * 4,
        up_block_types=("AllegroUpBlock3D",) * 4,
        block_out_channels=(8,) * 4,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    )
    return ready(AllegroPipeline(None, None, vae, transformer, DDIMScheduler())), _call(
        **_masks(), num_frames=8, negative_prompt=None
    )


def latte() -> Built:
    torch.manual_seed(0)
    transformer = LatteTransformer3DModel(
        sample_size=4,
        num_layers=3,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=WIDTH,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        video_length=3,
    )
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=2)
    pipe = LattePipeline(None, None, vae, transformer, DDIMScheduler())
    pipe.vae_scale_factor = 8  # that of the autoencoder which Latte is released with
    return ready(pipe), _call(width=32, height=32, video_length=3, negative_prompt=None)


BUILDERS = (
    kandinsky5_t2v,
    kandinsky5_i2v,
    kandinsky6_t2v,
    kandinsky6_i2v,
    sana_video_t2v,
    sana_video_t2v_without_norms,
    sana_video_i2v,
    allegro,
    latte,
)


def _kandinsky5(kind: type, *, has_reference: bool) -> Any:
    transformer = Kandinsky5Transformer3DModel(
        in_visual_dim=4,
        out_visual_dim=4,
        in_text_dim=WIDTH,
        in_text_dim2=16,
        time_dim=16,
        patch_size=(1, 2, 2),
        model_dim=32,
        ff_dim=32,
        num_text_blocks=1,
        num_visual_blocks=3,
        axes_dims=(4, 6, 6),
        visual_cond=has_reference,
        attention_type="regular",
    )
    return kind(
        transformer=awoken(transformer),
        vae=_kandinsky_vae(),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        scheduler=flow_match_euler(shift=7.0),
    )


def _kandinsky6() -> Kandinsky6TI2VAPipeline:
    transformer = Kandinsky6Transformer3DModel(
        in_visual_dim=4,
        out_visual_dim=4,
        in_text_dim=WIDTH,
        in_text_dim2=16,
        time_dim=16,
        model_dim=32,
        ff_dim=32,
        num_text_blocks=1,
        num_visual_blocks=3,
        axes_dims=(4, 6, 6),
        in_audio_dim=4,
        out_audio_dim=4,
        model_dim_a=16,
        time_dim_a=16,
        ff_dim_a=16,
        axes_dims_a=(8,),
        visual_token_type_num_embeddings=2,
    )
    sound = {
        "audio_vae": MMAudioVAE(
            mel_bins=8, latent_channels=4, hidden_channels=16, channel_multipliers=(1, 1, 1), layers_per_block=1
        ),
        "vocoder": MMAudioVocoder(
            num_mels=8,
            upsample_initial_channel=8,
            upsample_rates=(2,),
            upsample_kernel_sizes=(4,),
            resblock_kernel_sizes=(3,),
            resblock_dilation_sizes=((1, 3, 5),),
        ),
    }
    nothing = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    return Kandinsky6TI2VAPipeline(
        transformer=awoken(transformer),
        vae=_kandinsky_vae(),
        scheduler=flow_match_euler(shift=7.0),
        **sound,
        **nothing,
    )


def _kandinsky_vae() -> AutoencoderKLHunyuanVideo:
    return AutoencoderKLHunyuanVideo(
        latent_channels=4,
        down_block_types=("HunyuanVideoDownBlock3D",) * 3,
        up_block_types=("HunyuanVideoUpBlock3D",) * 3,
        block_out_channels=(8,) * 3,
        layers_per_block=1,
        norm_num_groups=4,
        mid_block_add_attention=False,
    )


def _kandinsky6_call(**more: Any) -> dict[str, Any]:
    text = {f"{kind}prompt_embeds": torch.randn(1, TEXT_TOKENS, WIDTH) for kind in ("", "negative_")} | {
        f"{kind}pooled_prompt_embeds": torch.randn(1, 16) for kind in ("", "negative_")
    }
    sizes = {"height": 32, "width": 64, "num_frames": 9}
    return {**text, **sizes, "num_inference_steps": 2, "guidance_scale": 5.0, "output_type": "latent", **more}


def _kandinsky5_call(**more: Any) -> dict[str, Any]:
    text = {
        f"{kind}prompt_{name}": value
        for kind in ("", "negative_")
        for name, value in (
            ("embeds_qwen", torch.randn(1, TEXT_TOKENS, WIDTH)),
            ("embeds_clip", torch.randn(1, 16)),
            ("cu_seqlens", torch.tensor([0, TEXT_TOKENS], dtype=torch.int32)),
        )
    }
    sizes = {"height": 32, "width": 64, "num_frames": 17}
    return {**text, **sizes, "num_inference_steps": 2, "guidance_scale": 5.0, "output_type": "latent", **more}


def _sana(kind: type, *, qk_norm: str | None) -> Any:
    transformer = SanaVideoTransformer3DModel(
        in_channels=16,
        out_channels=16,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=3,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=WIDTH,
        sample_size=8,
        patch_size=(1, 2, 2),
        qk_norm=qk_norm,
        rope_max_seq_len=32,
    )
    return kind(
        tokenizer=None,
        text_encoder=None,
        vae=AutoencoderKLWan(**WAN_VAE),
        transformer=transformer,
        scheduler=flow_match_euler(shift=3.0),
    )


def _sana_call(**more: Any) -> dict[str, Any]:
    return _call(**_masks(), height=32, width=64, frames=9, use_resolution_binning=False, negative_prompt=None, **more)


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


def _masks() -> dict[str, Any]:
    return {f"{kind}prompt_attention_mask": torch.ones(1, TEXT_TOKENS) for kind in ("", "negative_")}
