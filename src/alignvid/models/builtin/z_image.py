"""Z-Image: one stack of single-stream blocks, keys in the order [video | text], both padded to a multiple of 32.

Padding counts to its stream, for the model attends to it. Both passes of guidance are one batch, the conditional half
first; timesteps ascend from 0 at pure noise to 1.
"""

from __future__ import annotations

import math
from typing import Any

from alignvid.models.family import Arguments, Family, Grid, KeyNorm, Reads, Site, Stack, Time

_MULTIPLE = 32
_SINGLE = Site("single", "attention", (KeyNorm("norm_k", ("video", "text")),))


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Video tokens from the latents (channels, frames, height, width), padding included; the rest is text."""
    frames = arguments["x"][0].shape[1]
    grid = picture_grid(transformer, arguments)
    return {"video": math.ceil(frames * grid.height * grid.width / _MULTIPLE) * _MULTIPLE}


def picture_grid(transformer: Any, arguments: Arguments) -> Grid:
    """The tokens of the generated picture, before padding."""
    height, width = arguments["x"][0].shape[-2:]
    patch = arguments.get("patch_size", transformer.config.all_patch_size[0])
    return Grid(0, height // patch, width // patch)


FAMILY = Family(
    name="z_image",
    transformers=("ZImageTransformer2DModel",),
    pipelines=(
        "ZImagePipeline",
        "ZImageImg2ImgPipeline",
        "ZImageInpaintPipeline",
        "ZImageControlNetPipeline",
        "ZImageControlNetInpaintPipeline",
    ),
    stacks=(Stack("layers", (_SINGLE,)),),  # those that refine text or picture alone are left out
    reads=Reads(token_counts=token_counts),
    time=Time(text="cap_feats", argument="t", scale=1.0, is_ascending=True, batch_order=("cond", "uncond")),
)
