"""What a pipeline would give its transformer at the first step: random inputs of the right shapes, from a size."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Size(NamedTuple):
    """What is generated, in latents, and the tokens that it is conditioned on."""

    frames: int
    height: int
    width: int
    text: int
    image: int = 0
    """Tokens of the reference picture, where they do not follow from the other sizes."""


def wan(config: Any, size: Size) -> dict[str, Any]:
    return {
        **_latents(config.in_channels, size),
        "encoder_hidden_states": torch.randn(1, size.text, config.text_dim),
        "encoder_hidden_states_image": torch.randn(1, size.image, config.image_dim),
    }


def hunyuan_video(config: Any, size: Size) -> dict[str, Any]:
    return {
        **_latents(config.in_channels, size),
        "encoder_hidden_states": torch.randn(1, size.text, config.text_embed_dim),
        "encoder_attention_mask": torch.ones(1, size.text),
        "pooled_projections": torch.randn(1, config.pooled_projection_dim),
        "guidance": torch.tensor([6000.0]),
    }


def framepack(config: Any, size: Size) -> dict[str, Any]:
    """A section of v1: 1 frame before and 1 after at full size, 2 at half, 16 at a quarter of it."""
    history = {"latents_clean": 2, "latents_history_2x": 2, "latents_history_4x": 16}
    packed = {name: torch.randn(1, config.in_channels, n, size.height, size.width) for name, n in history.items()}
    indices = {f"indices_{name}": torch.arange(n) for name, n in (("latents", size.frames), *history.items())}
    image = torch.randn(1, size.image, config.image_proj_dim)
    return {**hunyuan_video(config, size), **packed, **indices, "image_embeds": image}


def cogvideox(config: Any, size: Size) -> dict[str, Any]:
    tokens = size.frames * size.height * size.width // config.patch_size**2
    return {
        "hidden_states": torch.randn(1, size.frames, config.in_channels, size.height, size.width),
        "encoder_hidden_states": torch.randn(1, size.text, config.text_embed_dim),
        "timestep": torch.tensor([1000]),
        "image_rotary_emb": tuple(torch.randn(2, tokens, config.attention_head_dim)),
    }


def ltx_video(config: Any, size: Size) -> dict[str, Any]:
    """From an image: its tokens, the first latent frame, have timestep 0."""
    tokens = size.frames * size.height * size.width
    frame_begins = torch.arange(tokens)[None] // (size.height * size.width)
    return {
        "hidden_states": torch.randn(1, tokens, config.in_channels),
        "timestep": 1000.0 * (frame_begins > 0),
        "encoder_hidden_states": torch.randn(1, size.text, config.caption_channels),
        "encoder_attention_mask": torch.ones(1, size.text),
        "num_frames": size.frames,
        "height": size.height,
        "width": size.width,
    }


def flux_kontext(config: Any, size: Size) -> dict[str, Any]:
    """The reference picture has the size of the generated one; the first of its ids is 1."""
    ids = torch.cartesian_prod(torch.arange(2), torch.arange(size.height // 2), torch.arange(size.width // 2))
    return {
        "hidden_states": torch.randn(1, len(ids), config.in_channels),
        "encoder_hidden_states": torch.randn(1, size.text, config.joint_attention_dim),
        "pooled_projections": torch.randn(1, config.pooled_projection_dim),
        "timestep": torch.tensor([1.0]),
        "img_ids": ids.float(),
        "txt_ids": torch.zeros(size.text, 3),
        "guidance": torch.tensor([3.5]),
    }


def qwen_image_edit(config: Any, size: Size) -> dict[str, Any]:
    """The reference picture has the size of the generated one."""
    picture = (1, size.height // 2, size.width // 2)
    return {
        "hidden_states": torch.randn(1, 2 * picture[1] * picture[2], config.in_channels),
        "encoder_hidden_states": torch.randn(1, size.text, config.joint_attention_dim),
        "timestep": torch.tensor([1.0]),
        "img_shapes": [[picture, picture]],
    }


def sd3(config: Any, size: Size) -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(1, config.in_channels, size.height, size.width),
        "encoder_hidden_states": torch.randn(1, size.text, config.joint_attention_dim),
        "pooled_projections": torch.randn(1, config.pooled_projection_dim),
        "timestep": torch.tensor([1000.0]),
    }


def mochi(config: Any, size: Size) -> dict[str, Any]:
    return {
        **_latents(config.in_channels, size),
        "timestep": torch.tensor([0.0]),  # it grows from 0 at pure noise
        "encoder_hidden_states": torch.randn(1, size.text, config.text_embed_dim),
        "encoder_attention_mask": torch.ones(1, size.text, dtype=torch.bool),
    }


def kandinsky5(config: Any, size: Size) -> dict[str, Any]:
    """From an image: the latents, those of the image and a mask, channels last."""
    channels = 2 * config.in_visual_dim + 1
    _, patch_height, patch_width = config.patch_size
    ranges = (size.frames, size.height // patch_height, size.width // patch_width)
    return {
        "hidden_states": torch.randn(1, size.frames, size.height, size.width, channels),
        "encoder_hidden_states": torch.randn(1, size.text, config.in_text_dim),
        "pooled_projections": torch.randn(1, config.in_text_dim2),
        "timestep": torch.tensor([1000.0]),
        "visual_rope_pos": [torch.arange(length) for length in ranges],
        "text_rope_pos": torch.arange(size.text),
    }


def _latents(channels: int, size: Size) -> dict[str, Tensor]:
    latents = torch.randn(1, channels, size.frames, size.height, size.width)
    return {"hidden_states": latents, "timestep": torch.tensor([1000.0])}
