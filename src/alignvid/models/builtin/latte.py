"""Latte: text-to-video without norms on queries and keys; a neutral one is put on the keys while attached.

Spatial blocks attend within a frame and to the text, temporal blocks along time at one place. Each frame, or each
place, is a sample of its own there.
"""

from __future__ import annotations

from alignvid.models.builtin.pixart import neutral_norm
from alignvid.models.family import Family, Site, Stack, Time

FAMILY = Family(
    name="latte",
    transformers=("LatteTransformer3DModel",),
    pipelines=("LattePipeline",),
    stacks=(
        Stack(
            "transformer_blocks",
            (Site("self", "attn1", neutral_norm("video")), Site("cross", "attn2", neutral_norm("text"))),
        ),
        Stack("temporal_transformer_blocks", (Site("temporal", "attn1", neutral_norm("video")),)),
    ),
    time=Time(batch_order=("uncond", "cond")),
)
