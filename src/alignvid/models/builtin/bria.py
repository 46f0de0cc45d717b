"""Bria 3.2: Flux's blocks, [text | video], with timesteps of 1000..0 and both passes of guidance in one batch."""

from __future__ import annotations

from alignvid.models.builtin.chroma import token_counts
from alignvid.models.builtin.flux import double_and_single
from alignvid.models.family import Family

FAMILY = Family(
    name="bria",
    transformers=("BriaTransformer2DModel",),
    pipelines=("BriaPipeline",),
    stacks=double_and_single(("video",)),
    token_counts=token_counts,
    batch_order=("uncond", "cond"),
)
