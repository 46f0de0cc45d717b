"""SkyReels-V2 of its own repository: the names of Wan's own code, with videos as one tensor and CLIP's tokens first.

Diffusion forcing gives each latent frame a timestep of its own, the noisiest of which counts. Its TeaCache keeps the
two passes apart by the order of forwards. Read in SkyReels-V2 abed76f.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from torch import Tensor

from alignvid.models.builtin.wan_native import CROSS, SELF, clip_grid, video_grid
from alignvid.models.builtin.wan_native import FAMILY as WAN
from alignvid.models.family import Arguments, Family, Reads, Stack

_CLIP_TOKENS = 257  # hard-coded there


def cross_keys(attention: Any, context: Tensor, arguments: Arguments) -> dict[str, Tensor]:
    """Text and image keys of cross-attention."""
    if not hasattr(attention, "k_img"):
        return {"text": attention.norm_k(attention.k(context))}
    image, text = context[:, :_CLIP_TOKENS], context[:, _CLIP_TOKENS:]
    return {
        "image": attention.norm_k_img(attention.k_img(image)),
        "text": attention.norm_k(attention.k(text)),
    }


def forget(transformer: Any) -> None:
    """So that its TeaCache runs the blocks in the next forward of each pass."""
    if transformer.enable_teacache:
        transformer.accumulated_rel_l1_distance_even = math.inf
        transformer.accumulated_rel_l1_distance_odd = math.inf


FAMILY = Family(
    name="skyreels-v2-native",
    transformers=("skyreels_v2_infer.modules.transformer:WanModel",),
    stacks=(Stack("blocks", (SELF, replace(CROSS, keys_in_advance=cross_keys))),),
    reads=Reads(grids={"cross.image": clip_grid, "self.video": video_grid}, forget=forget),
    time=WAN.time,
    sizes=WAN.sizes,
    presets_of="skyreels_v2",
)
