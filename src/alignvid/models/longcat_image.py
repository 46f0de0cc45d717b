"""LongCat-Image: Flux's blocks, [text | video | image]; `image` is the picture that is edited.

Position ids begin with 1 for the generated picture and with 2 for the reference. Of the editing pipeline's text, the
vision tokens of the language model count as text.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.family import Arguments, Family, Stack, class_name
from alignvid.models.flux import double_and_single
from alignvid.models.token_ids import reference_tokens

_FIRST_REFERENCE = 2
_FROM_TEXT = ("LongCatImagePipeline",)


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of the transformer; the pipeline tells whether there may be a reference picture."""
    return double_and_single(("video",) if class_name(pipeline) in _FROM_TEXT else ("video", "image"))


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Text from its embeddings, the reference by its ids; the rest is video."""
    image = reference_tokens(arguments["img_ids"], _FIRST_REFERENCE)
    return {"text": arguments["encoder_hidden_states"].shape[1], "image": image}


FAMILY = Family(
    name="longcat_image",
    transformers=("LongCatImageTransformer2DModel",),
    pipelines=("LongCatImagePipeline", "LongCatImageEditPipeline"),
    stacks=stacks,
    token_counts=token_counts,
    timestep_scale=1.0,
)
