"""Bria 3.2: Flux's blocks, [text | video], with timesteps of 1000..0 and both passes of guidance in one batch."""

from __future__ import annotations

from alignvid.models.builtin.flux import double_and_single
from alignvid.models.family import Family, Reads, Time
from alignvid.models.reading.shapes import text_counts

FAMILY = Family(
    name="bria",
    transformers=("BriaTransformer2DModel",),
    pipelines=("BriaPipeline",),
    stacks=double_and_single(("video",)),
    reads=Reads(token_counts=text_counts),
    time=Time(batch_order=("uncond", "cond")),
)
