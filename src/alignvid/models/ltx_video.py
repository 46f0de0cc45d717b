"""LTX-Video: text-to-video, image-to-video, and conditions on frames of one's choice.

Self-attention sees [image | video]: the clean first latent frame of image-to-video, or the clean tokens that conditions
put before the sequence and at its beginning. Clean tokens have a timestep below that of the noisy ones. Where the
transformer is told no sizes (conditions), they are counted from its timesteps, once per run: one transfer from the
device.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from alignvid.models.family import Arguments, Family, Grid, KeyNorm, Site, Stack, class_name

_FROM_TEXT = ("LTXPipeline",)

_clean_tokens: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of an LTX transformer; the pipeline tells whether the sequence may begin with clean tokens."""
    video = ("video",) if class_name(pipeline) in _FROM_TEXT else ("image", "video")
    self_attention = Site("self", "attn1", (KeyNorm("norm_k", video),), ignores_mask=True)
    return (Stack("transformer_blocks", (self_attention, Site("cross", "attn2", (KeyNorm("norm_k", ("text",)),)))),)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Clean tokens: one latent frame, or as many as the timesteps tell; the rest is video."""
    timestep, coordinates = arguments["timestep"], arguments.get("video_coords")
    if timestep.ndim < 2 or timestep.shape[1] == 1:
        return {"image": 0}
    if arguments.get("height") is not None:
        frame = frame_grid(transformer, arguments)
        return {"image": frame.height * frame.width}
    if coordinates is None:
        return {"image": clean_tokens(timestep)}
    if coordinates not in _clean_tokens:  # the same tensor at every step
        _clean_tokens[coordinates] = clean_tokens(timestep)
    return {"image": _clean_tokens[coordinates]}


def clean_tokens(timestep: Tensor) -> int:
    """Tokens that are less noisy than the noisiest, in the first sample."""
    return int((timestep[0] < timestep[0].max()).sum())


def frame_grid(transformer: Any, arguments: Arguments) -> Grid:
    """The tokens of one latent frame, where the transformer is told its size."""
    patch = transformer.config.patch_size
    return Grid(0, arguments["height"] // patch, arguments["width"] // patch)


def attended(transformer: Any, arguments: Arguments) -> dict[str, Tensor]:
    """Text is padded to one length."""
    return {"text": arguments["encoder_attention_mask"]}


FAMILY = Family(
    name="ltx_video",
    transformers=("LTXVideoTransformer3DModel",),
    pipelines=("LTXPipeline", "LTXImageToVideoPipeline", "LTXConditionPipeline"),
    stacks=stacks,
    token_counts=token_counts,
    attended=attended,
)
