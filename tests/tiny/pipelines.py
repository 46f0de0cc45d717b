"""Real diffusers pipelines, small enough to build and run on a CPU in a fraction of a second, offline.

Each builder gives a pipeline and the arguments of its call. Same weights and embeddings every time; three blocks or
more per stack; norm weights drawn around 1, because the usual ones hide a gain that is folded or ordered wrongly.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    AutoencoderKLWan,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoFramepackPipeline,
    HunyuanVideoFramepackTransformer3DModel,
    HunyuanVideoImageToVideoPipeline,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)
from PIL import Image
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

Built = tuple[DiffusionPipeline, dict[str, Any]]
"""A pipeline, and the keyword arguments of its call."""

WAN_TRANSFORMER = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 32,
    "freq_dim": 256,
    "ffn_dim": 32,
    "num_layers": 3,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 32,
}
WAN_I2V_CHANNELS = 36  # noise 16, mask 4, reference 16
WAN_VAE = {
    "base_dim": 3,
    "z_dim": 16,
    "dim_mult": [1, 1, 1, 1],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
}
WAN_5B_VAE = {
    **WAN_VAE,
    "z_dim": 48,
    "in_channels": 12,
    "out_channels": 12,
    "is_residual": True,
    "patch_size": 2,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
    "scale_factor_spatial": 16,
    "scale_factor_temporal": 4,
}
HUNYUAN_TRANSFORMER = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 10,
    "num_layers": 3,
    "num_single_layers": 3,
    "num_refiner_layers": 1,
    "patch_size": 1,
    "patch_size_t": 1,
    "guidance_embeds": True,
    "text_embed_dim": 16,
    "pooled_projection_dim": 8,
    "rope_axes_dim": (2, 4, 4),
    "image_condition_type": None,
}
HUNYUAN_VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "down_block_types": ("HunyuanVideoDownBlock3D",) * 4,
    "up_block_types": ("HunyuanVideoUpBlock3D",) * 4,
    "block_out_channels": (8, 8, 8, 8),
    "layers_per_block": 1,
    "act_fn": "silu",
    "norm_num_groups": 4,
    "scaling_factor": 0.476986,
    "spatial_compression_ratio": 8,
    "temporal_compression_ratio": 4,
    "mid_block_add_attention": True,
}


def wan_t2v() -> Built:
    torch.manual_seed(0)
    pipe = WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=AutoencoderKLWan(**WAN_VAE),
        scheduler=unipc(flow_shift=3.0),
        transformer=WanTransformer3DModel(**WAN_TRANSFORMER),
    )
    return ready(pipe), _wan_call(text_tokens=24)


def wan_i2v() -> Built:
    """Wan 2.1: the reference image as CLIP keys of cross-attention and in the channels."""
    torch.manual_seed(0)
    pipe = _wan_i2v(WanTransformer3DModel(**WAN_TRANSFORMER | _CLIP_KEYS))
    return ready(pipe), _wan_call(text_tokens=512, image=picture(32, 16))


def wan_flf2v() -> Built:
    """Wan 2.1 with a first and a last frame: the keys of two images."""
    torch.manual_seed(0)
    clip_tokens = 4 * 4 + 1
    pipe = _wan_i2v(WanTransformer3DModel(**WAN_TRANSFORMER | _CLIP_KEYS, pos_embed_seq_len=2 * clip_tokens))
    images = {"image": picture(32, 16), "last_image": picture(32, 16, colour=(20, 80, 160))}
    return ready(pipe), _wan_call(text_tokens=512, **images)


def wan22_i2v() -> Built:
    """Wan 2.2 A14B: one transformer for high noise, one for low; no CLIP keys."""
    torch.manual_seed(0)
    config = WAN_TRANSFORMER | {"in_channels": WAN_I2V_CHANNELS}
    pipe = WanImageToVideoPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=AutoencoderKLWan(**WAN_VAE),
        scheduler=unipc(flow_shift=3.0),
        transformer=WanTransformer3DModel(**config),
        transformer_2=WanTransformer3DModel(**config),
        boundary_ratio=0.875,
    )
    return ready(pipe), _wan_call(text_tokens=24, image=picture(32, 16))


def wan22_ti2v_5b() -> Built:
    """Wan 2.2 TI2V-5B from an image: the clean first latent frame is a prefix of the sequence, with timestep 0."""
    torch.manual_seed(0)
    pipe = WanImageToVideoPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=AutoencoderKLWan(**WAN_5B_VAE),
        scheduler=unipc(flow_shift=3.0),
        transformer=WanTransformer3DModel(**WAN_TRANSFORMER | {"in_channels": 48, "out_channels": 48}),
        expand_timesteps=True,
    )
    return ready(pipe), _wan_call(text_tokens=24, image=picture(64, 32), height=32, width=64)


def wan22_ti2v_5b_t2v() -> Built:
    """Wan 2.2 TI2V-5B from text alone."""
    torch.manual_seed(0)
    pipe = WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=AutoencoderKLWan(**WAN_5B_VAE),
        scheduler=unipc(flow_shift=3.0),
        transformer=WanTransformer3DModel(**WAN_TRANSFORMER | {"in_channels": 48, "out_channels": 48}),
        expand_timesteps=True,
    )
    return ready(pipe), _wan_call(text_tokens=24, height=32, width=64)


def wan_vace() -> Built:
    torch.manual_seed(0)
    config = WAN_TRANSFORMER | {"num_layers": 4, "vace_layers": [0, 1, 2], "vace_in_channels": 96}
    pipe = WanVACEPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=AutoencoderKLWan(**WAN_VAE),
        scheduler=unipc(flow_shift=3.0),
        transformer=WanVACETransformer3DModel(**config),
    )
    video = {"video": [picture(32, 16)] * 9, "mask": [Image.new("L", (32, 16), 128)] * 9}
    return ready(pipe), _wan_call(text_tokens=24, **video)


def hunyuan_t2v() -> Built:
    torch.manual_seed(0)
    pipe = HunyuanVideoPipeline(
        text_encoder=None,
        tokenizer=None,
        transformer=HunyuanVideoTransformer3DModel(**HUNYUAN_TRANSFORMER),
        vae=AutoencoderKLHunyuanVideo(**HUNYUAN_VAE),
        scheduler=flow_match_euler(shift=7.0),
        text_encoder_2=None,
        tokenizer_2=None,
    )
    return ready(pipe), _hunyuan_call(text_tokens=24)


def hunyuan_i2v_latent_concat() -> Built:
    """The reference image in the channels."""
    torch.manual_seed(0)
    config = {"in_channels": 2 * 4 + 1, "image_condition_type": "latent_concat", "guidance_embeds": False}
    return ready(_hunyuan_i2v(**config)), _hunyuan_call(text_tokens=24, image=picture(32, 16))


def hunyuan_i2v_token_replace() -> Built:
    """The reference image in place of the first latent frame."""
    torch.manual_seed(0)
    pipe = _hunyuan_i2v(image_condition_type="token_replace")
    return ready(pipe), _hunyuan_call(text_tokens=24, image=picture(32, 16))


def framepack_v1() -> Built:
    """Inverted anti-drifting sampling, one section."""
    torch.manual_seed(0)
    config = HUNYUAN_TRANSFORMER | {"patch_size": 2, "has_image_proj": True, "image_proj_dim": 32}
    vision = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    pipe = HunyuanVideoFramepackPipeline(
        text_encoder=None,
        tokenizer=None,
        transformer=HunyuanVideoFramepackTransformer3DModel(**config, has_clean_x_embedder=True),
        vae=AutoencoderKLHunyuanVideo(**HUNYUAN_VAE),
        scheduler=flow_match_euler(shift=7.0),
        text_encoder_2=None,
        tokenizer_2=None,
        image_encoder=SiglipVisionModel(SiglipVisionConfig(**vision, image_size=8, patch_size=2)),
        feature_extractor=SiglipImageProcessor(size={"height": 8, "width": 8}),
    )
    size = {"height": 32, "width": 48, "latent_window_size": 4}  # 4x6 latents: history kernels do not divide them
    return ready(pipe), _hunyuan_call(text_tokens=20, image=picture(48, 32), **size)


def framepack_v1_three_sections() -> Built:
    pipe, call = framepack_v1()
    return pipe, call | {"num_frames": 27}


def framepack_f1() -> Built:
    """Vanilla sampling, one section."""
    pipe, call = framepack_v1()
    return pipe, call | {"sampling_type": "vanilla"}


BUILDERS = {
    builder.__name__: builder
    for builder in (
        wan_t2v,
        wan_i2v,
        wan_flf2v,
        wan22_i2v,
        wan22_ti2v_5b,
        wan22_ti2v_5b_t2v,
        wan_vace,
        hunyuan_t2v,
        hunyuan_i2v_latent_concat,
        hunyuan_i2v_token_replace,
        framepack_v1,
        framepack_v1_three_sections,
        framepack_f1,
    )
}
"""Every pipeline by name, for parametrised tests."""


def generate(pipe: DiffusionPipeline, call: dict[str, Any], **changes: Any) -> Tensor:
    """What the pipeline makes from the same seed every time; the latents, unless `output_type` says otherwise."""
    output = pipe(**call | changes, generator=torch.Generator().manual_seed(0))
    if isinstance(output, Tensor):  # of a modular pipeline
        return output
    made = next(getattr(output, name) for name in ("frames", "images", "image", "video") if hasattr(output, name))
    return torch.cat(made, 2) if isinstance(made, list) else made  # FramePack gives the latents by section


def other_prompt(call: dict[str, Any]) -> dict[str, Any]:
    """The call with another prompt of the same length."""
    names = ("prompt_embeds", "prompt_embeds_t5", "prompt_embeds_qwen")
    name = next((name for name in names if name in call), None)
    if name is None:
        return call | {"prompt": call["prompt"].replace("cat", "rat")}
    texts = call[name]
    return call | {name: [text + 1.0 for text in texts] if isinstance(texts, list) else texts + 1.0}


def unipc(flow_shift: float) -> UniPCMultistepScheduler:
    """The scheduler that Wan is released with."""
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=flow_shift)


def flow_match_euler(shift: float) -> FlowMatchEulerDiscreteScheduler:
    """The scheduler that HunyuanVideo and FramePack are released with."""
    return FlowMatchEulerDiscreteScheduler(shift=shift)


_CLIP_KEYS = {"in_channels": WAN_I2V_CHANNELS, "image_dim": 4, "added_kv_proj_dim": 24}


def _wan_i2v(transformer: WanTransformer3DModel) -> WanImageToVideoPipeline:
    vision = {"hidden_size": 4, "projection_dim": 4, "num_hidden_layers": 2, "num_attention_heads": 2}
    return WanImageToVideoPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=AutoencoderKLWan(**WAN_VAE),
        scheduler=unipc(flow_shift=3.0),
        transformer=transformer,
        image_processor=CLIPImageProcessor(crop_size=4, size=4),
        image_encoder=CLIPVisionModelWithProjection(
            CLIPVisionConfig(**vision, image_size=4, intermediate_size=16, patch_size=1)
        ),
    )


def _hunyuan_i2v(**config: Any) -> HunyuanVideoImageToVideoPipeline:
    return HunyuanVideoImageToVideoPipeline(
        text_encoder=None,
        tokenizer=None,
        transformer=HunyuanVideoTransformer3DModel(**HUNYUAN_TRANSFORMER | config),
        vae=AutoencoderKLHunyuanVideo(**HUNYUAN_VAE),
        scheduler=flow_match_euler(shift=7.0),
        text_encoder_2=None,
        tokenizer_2=None,
        image_processor=None,
    )


def _wan_call(*, text_tokens: int, **more: Any) -> dict[str, Any]:
    width = WAN_TRANSFORMER["text_dim"]
    return {
        "prompt_embeds": torch.randn(1, text_tokens, width),
        "negative_prompt_embeds": torch.randn(1, text_tokens, width),
        "height": 16,
        "width": 32,
        "num_frames": 9,
        "num_inference_steps": 3,
        "guidance_scale": 6.0,
        "output_type": "latent",
        **more,
    }


def _hunyuan_call(*, text_tokens: int, **more: Any) -> dict[str, Any]:
    """The negative embeddings act with `true_cfg_scale` above 1; they have fewer valid tokens than the prompt."""
    width, pooled = HUNYUAN_TRANSFORMER["text_embed_dim"], HUNYUAN_TRANSFORMER["pooled_projection_dim"]
    return {
        "prompt_embeds": torch.randn(1, text_tokens, width),
        "pooled_prompt_embeds": torch.randn(1, pooled),
        "prompt_attention_mask": _mask(text_tokens, valid=text_tokens - 6),
        "negative_prompt_embeds": torch.randn(1, text_tokens, width),
        "negative_pooled_prompt_embeds": torch.randn(1, pooled),
        "negative_prompt_attention_mask": _mask(text_tokens, valid=text_tokens - 9),
        "height": 16,
        "width": 32,
        "num_frames": 9,
        "num_inference_steps": 3,
        "guidance_scale": 4.5,
        "output_type": "latent",
        **more,
    }


def _mask(tokens: int, *, valid: int) -> Tensor:
    return (torch.arange(tokens) < valid).float().unsqueeze(0)


def picture(width: int, height: int, colour: tuple[int, int, int] = (120, 60, 30)) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def ready(pipe: DiffusionPipeline) -> DiffusionPipeline:
    for component in pipe.components.values():
        if isinstance(component, nn.Module):
            _draw_norm_weights(component.eval())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def awoken(transformer: nn.Module) -> nn.Module:
    """With weights drawn where they are zero, as those of modulations begin: blocks would do nothing."""
    for weight in transformer.parameters():
        if not weight.any():
            nn.init.normal_(weight, std=0.1)
    return transformer


@torch.no_grad()
def _draw_norm_weights(model: nn.Module) -> None:
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if "Norm" in type(module).__name__ and weight is not None:
            weight.copy_(1.0 + 0.2 * torch.randn_like(weight))
