"""FramePack's own transformer, of its repository and of FramePack-Studio: the family `framepack` by other names.

Its TeaCache, and the MagCache of FramePack-Studio, skip all blocks where little has changed since the last forward that
ran them. Read in FramePack 97fe5db and FramePack-Studio f4369da.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from torch import Tensor

from alignvid.models.builtin import framepack
from alignvid.models.family import Arguments, Family, Grid, Reads

_NAMES = {
    "clean_latents": "latents_clean",
    "clean_latents_2x": "latents_history_2x",
    "clean_latents_4x": "latents_history_4x",
    "image_embeddings": "image_embeds",
}
"""What diffusers calls an argument, by its name here."""


def _renamed(arguments: Arguments) -> dict[str, Any]:
    return {_NAMES.get(name, name): value for name, value in arguments.items()}


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Video, image and history tokens from shapes; the rest is text."""
    return framepack.token_counts(transformer, _renamed(arguments))


def attended(transformer: Any, arguments: Arguments) -> dict[str, Tensor]:
    """Text is cropped for one sample, padded for several."""
    return framepack.attended(transformer, arguments)


def grid(target: str, transformer: Any, arguments: Arguments) -> Grid:
    """The patches of the reference image, or of one latent frame."""
    return framepack.FAMILY.grids[target](transformer, _renamed(arguments))


def forget(transformer: Any) -> None:
    """So that its TeaCache or MagCache runs the blocks in the next forward."""
    if transformer.enable_teacache:
        transformer.accumulated_rel_l1_distance = math.inf
    if (magcache := getattr(transformer, "magcache", None)) is not None:
        magcache.accumulated_err = math.inf


FAMILY = Family(
    name="framepack-native",
    transformers=("diffusers_helper.models.hunyuan_video_packed:HunyuanVideoTransformer3DModelPacked",),
    stacks=framepack.FAMILY.stacks,
    reads=Reads(
        token_counts=token_counts,
        attended=attended,
        grids={target: partial(grid, target) for target in framepack.FAMILY.grids},
        forget=forget,
    ),
    presets_of="framepack",
)
