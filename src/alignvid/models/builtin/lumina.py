"""Lumina-Next: self-attention within the picture and cross-attention to the text, side by side, norms across heads.

Timesteps ascend from 0 at pure noise to 1. Both passes of guidance are one batch, the conditional half first.
"""

from __future__ import annotations

from alignvid.models.family import Family, KeyNorm, Site, Stack, Time

_CROSS = Site("cross", "attn2", (KeyNorm("norm_k", ("text",)),), ignores_mask=True)
_SELF = Site("self", "attn1", (KeyNorm("norm_k", ("video",)),), ignores_mask=True)

FAMILY = Family(
    name="lumina",
    transformers=("LuminaNextDiT2DModel",),
    pipelines=("LuminaPipeline",),
    stacks=(Stack("layers", (_SELF, _CROSS)),),
    time=Time(scale=1.0, is_ascending=True, batch_order=("cond", "uncond")),
)
