"""Wan 2.1 and 2.2 as DiffSynth has them: the names of Wan's own code, run by `model_fn_wan_video`.

The same models as the family `wan`, whose presets serve them. CLIP's tokens come first in the text; VACE's blocks are a
model of their own there, and are not acted on. Written against diffsynth 2.1.12.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from torch import Tensor

from alignvid.errors import AttachmentError
from alignvid.models.builtin.wan_native import CROSS, SELF
from alignvid.models.family import Arguments, Family, Grid, OwnCache, Reads, Stack, Time
from alignvid.models.reading.shapes import square_grid
from alignvid.models.sizes import Sizes

_CLIP_TOKENS, _CLIP_WIDTH = 257, 1280  # hard-coded there


def cross_keys(attention: Any, context: Tensor, arguments: Arguments) -> dict[str, Tensor]:
    """Text and image keys of cross-attention."""
    if not attention.has_image_input:
        return {"text": attention.norm_k(attention.k(context))}
    image, text = context[:, :_CLIP_TOKENS], context[:, _CLIP_TOKENS:]
    return {
        "image": attention.norm_k_img(attention.k_img(image)),
        "text": attention.norm_k(attention.k(text)),
    }


def clip_grid(transformer: Any, arguments: Arguments) -> Grid:
    """The tokens of one reference image: CLIP's class token, then its patches."""
    return square_grid(arguments["clip_feature"].shape[1])


def video_grid(transformer: Any, arguments: Arguments) -> Grid:
    """One latent frame."""
    height, width = arguments["latents"].shape[-2:]
    _, patch_height, patch_width = transformer.patch_size
    return Grid(0, height // patch_height, width // patch_width)


def check(arguments: Arguments, streams: Any) -> None:
    """Raises: AttachmentError where one batch holds both branches, for no argument shows its size."""
    if arguments.get("cfg_merge"):
        raise AttachmentError(
            "cfg_merge=True runs both branches of guidance in one batch that DiffSynth makes inside; give the pipeline "
            "cfg_merge=False, which runs them one by one."
        )


def tea_cache(transformer: Any, arguments: Arguments) -> dict[str, Any] | None:
    """What the TeaCache of this pass keeps."""
    cache = arguments.get("tea_cache")
    return None if cache is None else vars(cache)


def forget_tea_cache(kept: dict[str, Any]) -> None:
    """So that it runs the blocks in the next forward of its pass."""
    kept["accumulated_rel_l1_distance"] = math.inf


def sizes(transformer: Any) -> Sizes:
    """Heads and width; CLIP embeds one reference image, or the first and the last frame."""
    pictures = 1 + transformer.has_image_pos_emb if transformer.has_image_input else 0
    return Sizes(transformer.blocks[0].self_attn.num_heads, transformer.dim, (_CLIP_WIDTH,) * pictures)


FAMILY = Family(
    name="wan-diffsynth",
    transformers=("diffsynth.models.wan_video_dit:WanModel",),
    stacks=(Stack("blocks", (SELF, replace(CROSS, keys_in_advance=cross_keys))),),
    reads=Reads(
        grids={"cross.image": clip_grid, "self.video": video_grid},
        check=check,
        cache=OwnCache(tea_cache, forget_tea_cache),
    ),
    time=Time(text="context"),
    sizes=sizes,
    presets_of="wan",
)
