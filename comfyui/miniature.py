"""AlignVid's embedded miniature in ComfyUI: a complete Wan2.1-I2V of 4 million parameters, without a download.

Its transformer runs in ComfyUI's own Wan code, under Wan's names; prompt, picture and latents go through the parts of
the diffusers pipeline that alignvid ships, which therefore must be installed: pip install "alignvid[generate]".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import comfy.latent_formats
import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import torch
from PIL import Image
from torch import Tensor, nn

from alignvid.miniature import load_pipeline

_CLIP_FEATURES = 1280  # what ComfyUI's Wan takes CLIP to give
_NAMES = (
    (r"condition_embedder\.text_embedder\.linear_1", "text_embedding.0"),
    (r"condition_embedder\.text_embedder\.linear_2", "text_embedding.2"),
    (r"condition_embedder\.time_embedder\.linear_1", "time_embedding.0"),
    (r"condition_embedder\.time_embedder\.linear_2", "time_embedding.2"),
    (r"condition_embedder\.time_proj", "time_projection.1"),
    (r"condition_embedder\.image_embedder\.norm1", "img_emb.proj.0"),
    (r"condition_embedder\.image_embedder\.ff\.net\.0\.proj", "img_emb.proj.1"),
    (r"condition_embedder\.image_embedder\.ff\.net\.2", "img_emb.proj.3"),
    (r"condition_embedder\.image_embedder\.norm2", "img_emb.proj.4"),
    (r"\.attn1\.to_(q|k|v)\.", r".self_attn.\1."),
    (r"\.attn1\.to_out\.0\.", ".self_attn.o."),
    (r"\.attn1\.", ".self_attn."),
    (r"\.attn2\.to_(q|k|v)\.", r".cross_attn.\1."),
    (r"\.attn2\.add_(k|v)_proj\.", r".cross_attn.\1_img."),
    (r"\.attn2\.norm_added_k\.", ".cross_attn.norm_k_img."),
    (r"\.attn2\.to_out\.0\.", ".cross_attn.o."),
    (r"\.attn2\.", ".cross_attn."),
    (r"\.norm2\.", ".norm3."),
    (r"\.ffn\.net\.0\.proj\.", ".ffn.0."),
    (r"\.ffn\.net\.2\.", ".ffn.2."),
    (r"^proj_out\.", "head.head."),
    (r"^scale_shift_table$", "head.modulation"),
    (r"\.scale_shift_table$", ".modulation"),
)
"""Names of a Wan transformer's weights in diffusers, and in Wan's own code and ComfyUI."""


def named_as_wan(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a Wan transformer of diffusers, under Wan's own names."""
    renamed = {}
    for name, weight in weights.items():
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = weight
    return renamed


def widened(weights: Mapping[str, Tensor], features: int) -> dict[str, Tensor]:
    """The same function of pictures' features, repeated to the number that ComfyUI's Wan takes.

    LayerNorm of features that are repeated is that of the features, repeated; the rest is filled up with zeros.
    """
    wide, copies = dict(weights), _CLIP_FEATURES // features
    for part in ("weight", "bias"):
        wide[f"img_emb.proj.0.{part}"] = weights[f"img_emb.proj.0.{part}"].repeat(copies)
    hidden, out = weights["img_emb.proj.1.weight"], weights["img_emb.proj.3.weight"]
    wide["img_emb.proj.1.weight"] = _padded(hidden, (_CLIP_FEATURES, _CLIP_FEATURES))
    wide["img_emb.proj.1.bias"] = _padded(weights["img_emb.proj.1.bias"], (_CLIP_FEATURES,))
    wide["img_emb.proj.3.weight"] = _padded(out, (len(out), _CLIP_FEATURES))
    return wide


def _padded(weight: Tensor, shape: tuple[int, ...]) -> Tensor:
    whole = weight.new_zeros(shape)
    whole[tuple(slice(size) for size in weight.shape)] = weight
    return whole


def load() -> tuple[Any, MiniatureText, MiniatureVision, MiniatureVideo]:
    """MODEL, CLIP, CLIP_VISION and VAE. Raises: MissingExtra without diffusers."""
    pipeline: Any = load_pipeline()
    return _model(pipeline), MiniatureText(pipeline), MiniatureVision(pipeline), MiniatureVideo(pipeline.vae)


def _model(pipeline: Any) -> Any:
    sizes, transformer = pipeline.transformer.config, pipeline.transformer
    width = sizes.num_attention_heads * sizes.attention_head_dim
    config = comfy.supported_models.WAN21_I2V(
        {
            "image_model": "wan2.1",
            "model_type": "i2v",
            "in_dim": sizes.in_channels,
            "out_dim": sizes.out_channels,
            "dim": width,
            "ffn_dim": sizes.ffn_dim,
            "freq_dim": sizes.freq_dim,
            "text_dim": sizes.text_dim,
            "num_heads": sizes.num_attention_heads,
            "num_layers": sizes.num_layers,
            "cross_attn_norm": sizes.cross_attn_norm,
            "eps": sizes.eps,
        }
    )
    config.set_inference_dtype(torch.float32, None)
    config.sampling_settings["shift"] = pipeline.scheduler.config.flow_shift
    config.latent_format = _latent_format(pipeline.vae.config)
    model = config.get_model({}, device=torch.device("cpu"))
    weights = widened(named_as_wan(transformer.state_dict()), sizes.image_dim)
    model.diffusion_model.load_state_dict(weights)
    model.diffusion_model.alignvid_image_keys = sizes.image_dim
    return comfy.model_patcher.ModelPatcher(
        model,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )


def _latent_format(config: Any) -> Any:
    """Wan's, with the means and deviations of the miniature's own latents."""
    latents = comfy.latent_formats.Wan21()
    latents.latents_mean = torch.tensor(config.latents_mean).view(1, -1, 1, 1, 1)
    latents.latents_std = torch.tensor(config.latents_std).view(1, -1, 1, 1, 1)
    return latents


class MiniatureText:
    """The miniature's tokenizer and text encoder, as CLIPTextEncode uses a CLIP."""

    def __init__(self, pipeline: Any) -> None:
        """`pipeline`: of diffusers, which pads the prompt as Wan does: to 512 tokens, with zeros."""
        self._pipeline = pipeline

    def tokenize(self, text: str, **_: Any) -> str:
        """The text itself; it is cut into tokens where it is encoded."""
        return text

    @torch.no_grad()
    def encode_from_tokens_scheduled(self, tokens: str, **_: Any) -> list[list[Any]]:
        """A CONDITIONING."""
        text = self._pipeline._get_t5_prompt_embeds(prompt=tokens, max_sequence_length=512)
        return [[text, {}]]


class MiniatureVision:
    """The miniature's vision encoder, as CLIPVisionEncode uses a CLIP_VISION."""

    def __init__(self, pipeline: Any) -> None:
        """`pipeline`: of diffusers."""
        self._processor, self._encoder = pipeline.image_processor, pipeline.image_encoder

    @torch.no_grad()
    def encode_image(self, image: Tensor, crop: bool = True) -> Any:
        """A CLIP_VISION_OUTPUT of pictures (batch, height, width, 3); features repeated, see `widened`."""
        pictures = [Image.fromarray((picture * 255.0).round().byte().cpu().numpy()) for picture in image[..., :3]]
        pixels = self._processor(images=pictures, return_tensors="pt", do_center_crop=crop).pixel_values
        states = self._encoder(pixel_values=pixels, output_hidden_states=True).hidden_states
        copies = _CLIP_FEATURES // states[-2].shape[-1]
        return SimpleNamespace(
            penultimate_hidden_states=states[-2].repeat(1, 1, copies),
            last_hidden_state=states[-1].repeat(1, 1, copies),
            image_embeds=None,
        )


class MiniatureVideo:
    """The miniature's autoencoder, as VAEDecode and WanImageToVideo use a VAE."""

    def __init__(self, vae: nn.Module) -> None:
        """`vae`: diffusers' AutoencoderKLWan."""
        self._vae: Any = vae

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Latents (1, channels, frames, height, width) of frames (frames, height, width, 3) from 0 to 1."""
        frames = pixels[..., :3].movedim(-1, 0).unsqueeze(0).float().cpu() * 2.0 - 1.0
        return self._vae.encode(frames).latent_dist.mode()

    @torch.no_grad()
    def decode(self, latents: Tensor, **_: Any) -> Tensor:
        """Frames (batch, frames, height, width, 3) from 0 to 1."""
        frames = self._vae.decode(latents.float().cpu(), return_dict=False)[0]
        return (frames.movedim(1, -1) / 2.0 + 0.5).clamp(0.0, 1.0)
