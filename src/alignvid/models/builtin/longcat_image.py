"""LongCat-Image: Flux's blocks, [text | video | image]; `image` is the picture that is edited.

Position ids begin with 1 for the generated picture and with 2 for the reference. The editing pipeline's text begins
with what the language model made of the reference, the stream `vision`.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.builtin.flux import counts_by_ids, double_and_single
from alignvid.models.family import Arguments, Family, Reads, Stack, Time, class_name
from alignvid.models.reading.vision_tokens import leading_vision, reads_pictures, text_behind_vision, watch

_counts_by_ids = counts_by_ids(first_reference=2)


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of the transformer; the pipeline says whether it edits a picture, and reads it too."""
    if class_name(pipeline) == "LongCatImagePipeline":
        return double_and_single(("video",))
    return double_and_single(("video", "image"), ("vision", "text") if reads_pictures(pipeline) else ("text",))


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int | None]:
    """Tokens of text and of the reference picture, and how many of the text are vision; the rest is video."""
    counts = _counts_by_ids(transformer, arguments)
    vision = leading_vision(arguments["encoder_hidden_states"])
    return counts | {"vision": vision, "text": counts["text"] - (vision or 0)}


FAMILY = Family(
    name="longcat_image",
    transformers=("LongCatImageTransformer2DModel",),
    pipelines=("LongCatImagePipeline", "LongCatImageEditPipeline"),
    stacks=stacks,
    reads=Reads(token_counts=token_counts, prompts=text_behind_vision, watch=watch),
    time=Time(scale=1.0),
)
