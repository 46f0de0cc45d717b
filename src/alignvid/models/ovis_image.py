"""Ovis-Image: Flux's blocks, [text | video]."""

from __future__ import annotations

from alignvid.models.chroma import token_counts
from alignvid.models.family import Family
from alignvid.models.flux import double_and_single

FAMILY = Family(
    name="ovis_image",
    transformers=("OvisImageTransformer2DModel",),
    pipelines=("OvisImagePipeline",),
    stacks=double_and_single(("video",)),
    token_counts=token_counts,
    timestep_scale=1.0,
)
