"""LTX-Video: text-to-video, image-to-video, conditions on frames of one's choice, and long video in windows.

Self-attention sees [image | video]: the clean first latent frame of image-to-video, or the clean tokens that conditions
put before the sequence and at its beginning. Clean tokens have a timestep below that of the noisy ones. Where the
transformer is given no sizes (conditions), they are counted from its timesteps, once per run: one transfer from the
device.

A window of long video has more of them behind it, the stream `condition`: the end of the window before, frames to
follow, and the reference at a time before the first. There they are counted at every step.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from alignvid.models.family import Arguments, Family, Grid, KeyNorm, Reads, Site, Stack, class_name
from alignvid.models.reading.per_tensor import PerTensor
from alignvid.models.reading.shapes import attended_text

_VIDEO_STREAMS = {  # pipeline: streams of the video's keys, where it has not all of them
    "LTXPipeline": ("video",),
    "LTXImageToVideoPipeline": ("image", "video"),
    "LTXConditionPipeline": ("image", "video"),
}

_clean_ends = PerTensor[dict[str, int]]()


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of an LTX transformer; the pipeline says whether the sequence may begin or end with clean tokens."""
    video = _VIDEO_STREAMS.get(class_name(pipeline), ("image", "video", "condition"))
    self_attention = Site("self", "attn1", (KeyNorm("norm_k", video),), ignores_mask=True)
    cross = Site("cross", "attn2", (KeyNorm("norm_k", ("text",)),), text_through=("caption_projection",))
    return (Stack("transformer_blocks", (self_attention, cross)),)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Clean tokens: one latent frame, or as many as the timesteps say; the rest is video."""
    timestep, coordinates = arguments["timestep"], arguments.get("video_coords")
    if timestep.ndim < 2 or timestep.shape[1] == 1:
        return {"image": 0, "condition": 0}
    if coordinates is None and arguments.get("height") is not None:
        frame = frame_grid(transformer, arguments)
        return {"image": frame.height * frame.width, "condition": 0}
    if coordinates is None:
        return clean_ends(timestep)
    return _clean_ends.of(coordinates, lambda: clean_ends(timestep))  # the same tensor at every step, but in windows


def clean_ends(timestep: Tensor) -> dict[str, int]:
    """Tokens that are less noisy than the noisiest, in the first sample: before those and behind them."""
    levels = timestep[0].flatten()
    first, last = levels.ge(levels.max()).nonzero().flatten()[[0, -1]].tolist()
    return {"image": first, "condition": len(levels) - 1 - last}


def frame_grid(transformer: Any, arguments: Arguments) -> Grid:
    """The tokens of one latent frame, where the transformer is given its size."""
    patch = transformer.config.patch_size
    return Grid(0, arguments["height"] // patch, arguments["width"] // patch)


FAMILY = Family(
    name="ltx_video",
    transformers=("LTXVideoTransformer3DModel",),
    pipelines=(
        "LTXPipeline",
        "LTXImageToVideoPipeline",
        "LTXConditionPipeline",
        "LTXI2VLongMultiPromptPipeline",
    ),
    stacks=stacks,
    reads=Reads(token_counts=token_counts, attended=attended_text),
)
