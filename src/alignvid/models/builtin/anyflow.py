"""AnyFlow: text-to-video in any number of steps, or on from a given video.

Built as Wan; latents are (batch, frames, channels, height, width). Frames of a given video count as video, too.
"""

from __future__ import annotations

from alignvid.models.family import Family, KeyNorm, Reads, Site, Stack, Time
from alignvid.models.reading.shapes import patch_grid

FAMILY = Family(
    name="anyflow",
    transformers=("AnyFlowTransformer3DModel",),
    pipelines=("AnyFlowPipeline",),
    stacks=(
        Stack(
            "blocks",
            (
                Site("self", "attn1", (KeyNorm("norm_k", ("video",)),)),
                Site(
                    "cross",
                    "attn2",
                    (KeyNorm("norm_k", ("text",)),),
                    text_through=("condition_embedder.text_embedder",),
                ),
            ),
        ),
    ),
    reads=Reads(grids={"self.video": patch_grid}),
    time=Time(batch_order=("uncond", "cond")),
)
