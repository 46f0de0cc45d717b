"""Bria Fibo: Flux's blocks, [text | video | image], each of which brings in another layer of the language model.

`image` are the pictures that are edited: position ids begin with 0 for the generated one and count the references.
Both passes of guidance are one batch.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.builtin.flux import counts_by_ids, double_and_single
from alignvid.models.family import Family, Reads, Stack, Time, class_name


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of the transformer; the pipeline says whether there may be pictures to edit."""
    return double_and_single(("video",) if class_name(pipeline) == "BriaFiboPipeline" else ("video", "image"))


FAMILY = Family(
    name="bria_fibo",
    transformers=("BriaFiboTransformer2DModel",),
    pipelines=("BriaFiboPipeline", "BriaFiboEditPipeline"),
    stacks=stacks,
    reads=Reads(token_counts=counts_by_ids(first_reference=1)),
    time=Time(batch_order=("uncond", "cond")),
)
