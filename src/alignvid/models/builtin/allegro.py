"""Allegro: text-to-video without norms on queries or keys; a norm put there would not run.

So the gain acts on what the projections of the keys give, bias and all: with no norm behind it, that is exact.
"""

from __future__ import annotations

from alignvid.models.family import Family, KeyNorm, Site, Stack, Time

FAMILY = Family(
    name="allegro",
    transformers=("AllegroTransformer3DModel",),
    pipelines=("AllegroPipeline",),
    stacks=(
        Stack(
            "transformer_blocks",
            (
                Site("self", "attn1", (KeyNorm("to_k", ("video",), is_projection=True),)),
                Site("cross", "attn2", (KeyNorm("to_k", ("text",), is_projection=True),)),
            ),
        ),
    ),
    time=Time(batch_order=("uncond", "cond")),
)
