"""Bria Fibo: Flux's blocks, [text | video | image], each of which brings in another layer of the language model.

`image` are the pictures that are edited: position ids begin with 0 for the generated one and count the references.
Both passes of guidance are one batch.
"""

from __future__ import annotations

from alignvid.models.family import Family
from alignvid.models.flux import counts_by_ids, with_references

FAMILY = Family(
    name="bria_fibo",
    transformers=("BriaFiboTransformer2DModel",),
    pipelines=("BriaFiboPipeline", "BriaFiboEditPipeline"),
    stacks=with_references(except_for=("BriaFiboPipeline",)),
    token_counts=counts_by_ids(first_reference=1),
    batch_order=("uncond", "cond"),
)
