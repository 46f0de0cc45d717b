"""Wan 2.1 and 2.2 as their own repositories have them, with other names and arguments than in diffusers.

The same models as the family `wan`, whose presets serve them: separate norms for text and image keys, one shared query,
two softmaxes, everything put on the keys. Inputs are lists of (channels, frames, height, width), so that the grid of a
batch is that of its first video; a video may be padded to `seq_len`, at its end. TI2V-5B's clean first frame counts as
video, for no shape says that it is there. Read in Wan2.1 9737cba and Wan2.2 42bf4cf.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from alignvid.models.family import Arguments, Family, Grid, KeyNorm, Reads, Site, Stack, Time
from alignvid.models.reading.shapes import square_grid
from alignvid.models.sizes import Sizes

_CLIP_WIDTH = 1280  # hard-coded there


def cross_keys(attention: Any, context: Tensor, arguments: Arguments) -> dict[str, Tensor]:
    """Text and image keys of cross-attention: image tokens are what comes before the last 512."""
    if not hasattr(attention, "k_img"):
        return {"text": attention.norm_k(attention.k(context))}
    image, text = context[:, :-512], context[:, -512:]
    return {
        "image": attention.norm_k_img(attention.k_img(image)),
        "text": attention.norm_k(attention.k(text)),
    }


SELF = Site("self", "self_attn", (KeyNorm("norm_k", ("video",)),))
CROSS = Site(
    "cross",
    "cross_attn",
    (KeyNorm("norm_k", ("text",)), KeyNorm("norm_k_img", ("image",), is_optional=True)),
    keys_in_advance=cross_keys,
)


def clip_grid(transformer: Any, arguments: Arguments) -> Grid:
    """The tokens of one reference image: CLIP's class token, then its patches."""
    return square_grid(arguments["clip_fea"].shape[1])


def video_grid(transformer: Any, arguments: Arguments) -> Grid:
    """One latent frame of the first video."""
    height, width = arguments["x"][0].shape[-2:]
    _, patch_height, patch_width = transformer.patch_size
    return Grid(0, height // patch_height, width // patch_width)


def sizes(transformer: Any) -> Sizes:
    """Heads and width; CLIP embeds one reference image, or the first and the last frame."""
    pictures = {"i2v": 1, "flf2v": 2}.get(transformer.model_type, 0) if hasattr(transformer, "img_emb") else 0
    return Sizes(transformer.num_heads, transformer.dim, (_CLIP_WIDTH,) * pictures)


FAMILY = Family(
    name="wan-native",
    transformers=("wan.modules.model:WanModel", "wan.modules.vace_model:VaceWanModel"),
    stacks=(Stack("blocks", (SELF, CROSS)), Stack("vace_blocks", (SELF, CROSS), is_main=False, is_optional=True)),
    reads=Reads(grids={"cross.image": clip_grid, "self.video": video_grid}),
    time=Time(argument="t", text="context"),
    sizes=sizes,
    presets_of="wan",
)
