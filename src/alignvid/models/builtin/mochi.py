"""Mochi: text-to-video, one norm for video keys and one for text keys, which meet in one softmax.

Its timesteps grow from 0 at pure noise. Attention runs sample by sample, over the valid text alone.
"""

from __future__ import annotations

from alignvid.models.family import Family, KeyNorm, Reads, Site, Stack, Time
from alignvid.models.reading.shapes import patch_grid

FAMILY = Family(
    name="mochi",
    transformers=("MochiTransformer3DModel",),
    pipelines=("MochiPipeline",),
    stacks=(
        Stack(
            "transformer_blocks",
            (
                Site(
                    "double",
                    "attn1",
                    (KeyNorm("norm_k", ("video",)), KeyNorm("norm_added_k", ("text",))),
                    is_joint=True,
                    ignores_mask=True,
                ),
            ),
        ),
    ),
    reads=Reads(grids={"double.video": patch_grid}),
    time=Time(is_ascending=True),
)
