"""Ovis-Image: Flux's blocks, [text | video]."""

from __future__ import annotations

from alignvid.models.builtin.chroma import token_counts
from alignvid.models.builtin.flux import double_and_single
from alignvid.models.family import Family

FAMILY = Family(
    name="ovis_image",
    transformers=("OvisImageTransformer2DModel",),
    pipelines=("OvisImagePipeline",),
    stacks=double_and_single(("video",)),
    token_counts=token_counts,
    timestep_scale=1.0,
)
