"""Bria Fibo: Flux's blocks, [text | video | image], each of which brings in another layer of the language model.

`image` are the pictures that are edited: position ids begin with 0 for the generated one and count the references.
Both passes of guidance are one batch.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.family import Arguments, Family, Stack, class_name
from alignvid.models.flux import double_and_single
from alignvid.models.token_ids import reference_tokens

_FIRST_REFERENCE = 1
_FROM_TEXT = ("BriaFiboPipeline",)


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of the transformer; the pipeline tells whether there may be reference pictures."""
    return double_and_single(("video",) if class_name(pipeline) in _FROM_TEXT else ("video", "image"))


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Text from its embeddings, references by their ids; the rest is video."""
    image = reference_tokens(arguments["img_ids"], _FIRST_REFERENCE)
    return {"text": arguments["encoder_hidden_states"].shape[1], "image": image}


FAMILY = Family(
    name="bria_fibo",
    transformers=("BriaFiboTransformer2DModel",),
    pipelines=("BriaFiboPipeline", "BriaFiboEditPipeline"),
    stacks=stacks,
    token_counts=token_counts,
    batch_order=("uncond", "cond"),
)
