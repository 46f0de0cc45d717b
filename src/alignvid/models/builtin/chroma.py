"""Chroma: Flux's blocks without pooled text, [text | video]; its single-stream blocks get one joined sequence."""

from __future__ import annotations

from alignvid.models.builtin.flux import double_and_single
from alignvid.models.family import Family, Reads, Time
from alignvid.models.reading.shapes import text_counts

FAMILY = Family(
    name="chroma",
    transformers=("ChromaTransformer2DModel",),
    pipelines=("ChromaPipeline", "ChromaImg2ImgPipeline"),
    stacks=double_and_single(("video",)),
    reads=Reads(token_counts=text_counts),
    time=Time(scale=1.0),
)
