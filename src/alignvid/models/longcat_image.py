"""LongCat-Image: Flux's blocks, [text | video | image]; `image` is the picture that is edited.

Position ids begin with 1 for the generated picture and with 2 for the reference. Of the editing pipeline's text, the
vision tokens of the language model count as text.
"""

from __future__ import annotations

from alignvid.models.family import Family
from alignvid.models.flux import counts_by_ids, with_references

FAMILY = Family(
    name="longcat_image",
    transformers=("LongCatImageTransformer2DModel",),
    pipelines=("LongCatImagePipeline", "LongCatImageEditPipeline"),
    stacks=with_references(except_for=("LongCatImagePipeline",)),
    token_counts=counts_by_ids(first_reference=2),
    timestep_scale=1.0,
)
