"""Ten families as the benchmarks run them: the released sizes, and tiny ones with as many tokens as a short video.

Released sizes are the defaults of diffusers' classes, which follow the released models; where another number is given,
it is from the model's published description. No checkpoint was opened.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import diffusers
import torch

import host_inputs
from alignvid.models.registry import family_of
from host_inputs import Size


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
        arguments=host_inputs.wan,
    ),
    "hunyuan_video": BenchedHost(
        pipeline="HunyuanVideoPipeline",
        transformer="HunyuanVideoTransformer3DModel",
        checkpoint="HunyuanVideo, 720p, 129 frames",
        config={},
        size=Size(33, 90, 160, text=256),
        tiny_config=_TINY_HUNYUAN,
        tiny_size=_SHORT_VIDEO,
        arguments=host_inputs.hunyuan_video,
    ),
    "framepack": BenchedHost(
        pipeline="HunyuanVideoFramepackPipeline",
        transformer="HunyuanVideoFramepackTransformer3DModel",
        checkpoint="FramePack I2V, 640x640, a section of 33 frames",
        config={"has_image_proj": True, "has_clean_x_embedder": True},
        size=Size(9, 80, 80, text=256, image=729),
        tiny_config=_TINY_HUNYUAN | {"has_image_proj": True, "image_proj_dim": 16, "has_clean_x_embedder": True},
        tiny_size=_SHORT_VIDEO._replace(image=64),
        arguments=host_inputs.framepack,
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
        arguments=host_inputs.cogvideox,
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
        arguments=host_inputs.ltx_video,
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
        arguments=host_inputs.flux_kontext,
    ),
    "qwen_image_edit": BenchedHost(
        pipeline="QwenImageEditPipeline",
        transformer="QwenImageTransformer2DModel",
        checkpoint="Qwen-Image-Edit, 1024x1024, prompt of 1,400 tokens",  # 1,337 of them are the picture's
        config={},
        size=Size(1, 128, 128, text=1400),
        tiny_config=_TINY_JOINT | {"num_layers": 2, "out_channels": 4, "axes_dims_rope": (4, 6, 6)},
        tiny_size=_SMALL_PICTURE,
        arguments=host_inputs.qwen_image_edit,
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
        arguments=host_inputs.sd3,
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
        arguments=host_inputs.mochi,
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
        arguments=host_inputs.kandinsky5,
    ),
}
