"""Ovis-Image: Flux's blocks, [text | video]."""

from __future__ import annotations

from alignvid.models.builtin.flux import double_and_single
from alignvid.models.family import Family, Reads, Time
from alignvid.models.reading.shapes import text_counts

FAMILY = Family(
    name="ovis_image",
    transformers=("OvisImageTransformer2DModel",),
    pipelines=("OvisImagePipeline",),
    stacks=double_and_single(("video",)),
    reads=Reads(token_counts=text_counts),
    time=Time(scale=1.0),
)
