"""Ten families as the benchmarks run them: the released sizes, and tiny ones with as many tokens as a short video.

Released sizes are the defaults of diffusers' classes, which follow the released models; where another number is given,
it is from the model's published description. No checkpoint was opened. Inputs are random, of the shapes that the
pipeline would give.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import diffusers
import torch
from torch import Tensor

from alignvid.models.registry import family_of


class Size(NamedTuple):
    """What is generated, in latents, and the tokens that it is conditioned on."""

    frames: int
    height: int
    width: int
    text: int
    image: int = 0
    """Tokens of the reference picture, where they do not follow from the other sizes."""


@dataclass(frozen=True)
class BenchedHost:
    """A pipeline without encoders and decoder: its transformer, scheduler and inputs."""

    pipeline: str
    transformer: str
    checkpoint: str
    """The released model, and what it generates."""
    config: Mapping[str, Any]
    """Where the released model differs from the defaults of its class in diffusers."""
    size: Size
    tiny_config: Mapping[str, Any]
    tiny_size: Size
    arguments: Callable[[Any, Size], dict[str, Any]]
    """Arguments of the transformer's forward, from its config and a size."""


class Built(NamedTuple):
    pipeline: Any
    arguments: dict[str, Any]


def build(host: BenchedHost, *, is_tiny: bool, drawing: AbstractContextManager | None = None) -> Built:
    """The pipeline at its first step, with weights as its classes draw them, within a context if one is given."""
    config, size = (host.tiny_config, host.tiny_size) if is_tiny else (host.config, host.size)
    torch.manual_seed(0)
    with drawing or nullcontext():
        transformer = getattr(diffusers, host.transformer)(**config).eval()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(4)
    scheduler.set_begin_index(0)
    kind = getattr(diffusers, host.pipeline)
    names = [name for name in inspect.signature(kind).parameters if not name.startswith(("boundary", "expand"))]
    absent = dict.fromkeys(name for name in names if kind.__init__.__annotations__.get(name) not in (bool, "bool"))
    pipeline = kind(**absent | {"transformer": transformer, "scheduler": scheduler})
    return Built(pipeline, {**host.arguments(transformer.config, size), "return_dict": False})


@contextmanager
def noted_tokens(built: Built) -> Iterator[list[int]]:
    """Tokens that the first block is given, pictures and reference together, in the forwards that run inside."""
    tokens: list[int] = []
    transformer = built.pipeline.transformer
    first = family_of(transformer).stacks_of(transformer, built.pipeline)[0]
    hook = getattr(transformer, first.name)[0].register_forward_pre_hook(
        lambda block, args, kwargs: tokens.append((args[0] if args else kwargs["hidden_states"]).shape[1]),
        with_kwargs=True,
    )
    try:
        yield tokens
    finally:
        hook.remove()


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


_TINY_HUNYUAN = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "num_refiner_layers": 1,
    "text_embed_dim": 32,
    "pooled_projection_dim": 8,
    "rope_axes_dim": (4, 6, 6),
    "in_channels": 4,
    "out_channels": 4,
}
_TINY_JOINT = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 16,
    "joint_attention_dim": 32,
}
_SHORT_VIDEO = Size(4, 32, 64, text=256)  # 4 x 16 x 32 = 2048 tokens
_PICTURE = Size(1, 64, 128, text=256)  # 32 x 64 = 2048 tokens
_SMALL_PICTURE = Size(1, 64, 64, text=256)  # 1024 tokens, and as many of the reference

HOSTS = {
    "wan": BenchedHost(
        pipeline="WanImageToVideoPipeline",
        transformer="WanTransformer3DModel",
        checkpoint="Wan 2.1 I2V 14B, 720p, 81 frames",
        config={"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120},
        size=Size(21, 90, 160, text=512, image=257),
        tiny_config={
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "in_channels": 36,
            "text_dim": 32,
            "ffn_dim": 64,
            "num_layers": 2,
            "image_dim": 16,
            "added_kv_proj_dim": 32,
            "rope_max_seq_len": 32,
        },
        tiny_size=_SHORT_VIDEO._replace(text=512, image=257),
        arguments=wan,
    ),
    "hunyuan_video": BenchedHost(
        pipeline="HunyuanVideoPipeline",
        transformer="HunyuanVideoTransformer3DModel",
        checkpoint="HunyuanVideo, 720p, 129 frames",
        config={},
        size=Size(33, 90, 160, text=256),
        tiny_config=_TINY_HUNYUAN,
        tiny_size=_SHORT_VIDEO,
        arguments=hunyuan_video,
    ),
    "framepack": BenchedHost(
        pipeline="HunyuanVideoFramepackPipeline",
        transformer="HunyuanVideoFramepackTransformer3DModel",
        checkpoint="FramePack I2V, 640x640, a section of 33 frames",
        config={"has_image_proj": True, "has_clean_x_embedder": True},
        size=Size(9, 80, 80, text=256, image=729),
        tiny_config=_TINY_HUNYUAN | {"has_image_proj": True, "image_proj_dim": 16, "has_clean_x_embedder": True},
        tiny_size=_SHORT_VIDEO._replace(image=64),
        arguments=framepack,
    ),
    "cogvideox": BenchedHost(
        pipeline="CogVideoXImageToVideoPipeline",
        transformer="CogVideoXTransformer3DModel",
        checkpoint="CogVideoX 5B I2V, 720x480, 49 frames",
        config={
            "num_attention_heads": 48,
            "num_layers": 42,
            "in_channels": 32,
            "use_rotary_positional_embeddings": True,
            "use_learned_positional_embeddings": True,
        },
        size=Size(13, 60, 90, text=226),
        tiny_config={
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "in_channels": 8,
            "out_channels": 4,
            "time_embed_dim": 8,
            "text_embed_dim": 32,
            "num_layers": 2,
            "sample_width": 64,
            "sample_height": 32,
            "sample_frames": 13,
            "max_text_seq_length": 226,
            "use_rotary_positional_embeddings": True,
        },
        tiny_size=_SHORT_VIDEO._replace(text=226),
        arguments=cogvideox,
    ),
    "ltx_video": BenchedHost(
        pipeline="LTXImageToVideoPipeline",
        transformer="LTXVideoTransformer3DModel",
        checkpoint="LTX-Video 2B I2V, 704x480, 161 frames",
        config={},
        size=Size(21, 15, 22, text=128),
        tiny_config={
            "in_channels": 8,
            "out_channels": 8,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "cross_attention_dim": 32,
            "num_layers": 2,
            "caption_channels": 32,
        },
        tiny_size=Size(4, 16, 32, text=128),
        arguments=ltx_video,
    ),
    "flux_kontext": BenchedHost(
        pipeline="FluxKontextPipeline",
        transformer="FluxTransformer2DModel",
        checkpoint="FLUX.1 Kontext dev, 1024x1024",
        config={"guidance_embeds": True},
        size=Size(1, 128, 128, text=512),
        tiny_config=_TINY_JOINT
        | {
            "num_layers": 1,
            "num_single_layers": 1,
            "pooled_projection_dim": 8,
            "axes_dims_rope": (4, 6, 6),
            "guidance_embeds": True,
        },
        tiny_size=_SMALL_PICTURE,
        arguments=flux_kontext,
    ),
    "qwen_image_edit": BenchedHost(
        pipeline="QwenImageEditPipeline",
        transformer="QwenImageTransformer2DModel",
        checkpoint="Qwen-Image-Edit, 1024x1024, prompt of 1,400 tokens",  # 1,337 of them are the picture's
        config={},
        size=Size(1, 128, 128, text=1400),
        tiny_config=_TINY_JOINT | {"num_layers": 2, "out_channels": 4, "axes_dims_rope": (4, 6, 6)},
        tiny_size=_SMALL_PICTURE,
        arguments=qwen_image_edit,
    ),
    "sd3": BenchedHost(
        pipeline="StableDiffusion3Pipeline",
        transformer="SD3Transformer2DModel",
        checkpoint="Stable Diffusion 3.5 large, 1024x1024",
        config={
            "num_layers": 38,
            "num_attention_heads": 38,
            "caption_projection_dim": 2432,
            "pos_embed_max_size": 192,
            "qk_norm": "rms_norm",
        },
        size=Size(1, 128, 128, text=333),
        tiny_config=_TINY_JOINT
        | {
            "num_layers": 2,
            "caption_projection_dim": 32,
            "pooled_projection_dim": 8,
            "pos_embed_max_size": 64,
            "out_channels": 16,
            "qk_norm": "rms_norm",
        },
        tiny_size=_PICTURE._replace(text=333),
        arguments=sd3,
    ),
    "mochi": BenchedHost(
        pipeline="MochiPipeline",
        transformer="MochiTransformer3DModel",
        checkpoint="Mochi 1 preview, 848x480, 163 frames",
        config={},
        size=Size(28, 60, 106, text=256),
        tiny_config={
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "num_layers": 2,
            "pooled_projection_dim": 16,
            "in_channels": 4,
            "text_embed_dim": 32,
            "time_embed_dim": 8,
        },
        tiny_size=_SHORT_VIDEO,
        arguments=mochi,
    ),
    "kandinsky5": BenchedHost(
        pipeline="Kandinsky5I2VPipeline",
        transformer="Kandinsky5Transformer3DModel",
        checkpoint="Kandinsky 5 I2V Lite, 768x512, 121 frames",
        config={
            "in_visual_dim": 16,
            "out_visual_dim": 16,
            "model_dim": 1792,
            "ff_dim": 7168,
            "visual_cond": True,
        },
        size=Size(31, 64, 96, text=256),
        tiny_config={
            "in_visual_dim": 4,
            "out_visual_dim": 4,
            "in_text_dim": 32,
            "in_text_dim2": 16,
            "time_dim": 16,
            "model_dim": 32,
            "ff_dim": 64,
            "num_text_blocks": 1,
            "num_visual_blocks": 2,
            "axes_dims": (4, 6, 6),
            "visual_cond": True,
        },
        tiny_size=_SHORT_VIDEO,
        arguments=kandinsky5,
    ),
}
