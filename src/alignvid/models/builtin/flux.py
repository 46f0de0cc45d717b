"""Flux: text-to-image, image-to-image, filling, control, and Kontext, which edits a reference picture.

Keys lie as [text | video | image]: the generated picture is the stream `video`, as generated tokens are everywhere;
`image` are Kontext's reference pictures, marked by the first of their position ids. Double-stream blocks have a key
norm for text and one for pictures, single-stream blocks one over all. Chroma, Ovis and Bria are built the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack, Time, class_name
from alignvid.models.reading.token_ids import example_tokens, reference_tokens

_CLOZE = ("VisualClozePipeline", "VisualClozeGenerationPipeline")
_EDITING = ("FluxKontextPipeline", "FluxKontextInpaintPipeline", "")  # a bare transformer may be given anything


def double_and_single(pictures: tuple[str, ...], text: tuple[str, ...] = ("text",)) -> tuple[Stack, ...]:
    """Double-stream blocks, whose text runs through norms of its own, and single-stream blocks; text lies first."""
    norms = (KeyNorm("norm_k", pictures), KeyNorm("norm_added_k", text))
    double = Site("double", "attn", norms, is_joint=True, joint_order=(*text, *pictures))
    single = Site("single", "attn", (KeyNorm("norm_k", (*text, *pictures)),))
    return Stack("transformer_blocks", (double,)), Stack("single_transformer_blocks", (single,))


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of a Flux transformer; the pipeline says whether there may be reference pictures, and on which side."""
    if class_name(pipeline) in _CLOZE:
        return double_and_single(("image", "video"))
    return double_and_single(("video", "image") if class_name(pipeline) in _EDITING else ("video",))


def counts_by_ids(first_reference: int) -> Callable[[Any, Arguments], dict[str, int]]:
    """Counts of text, by its embeddings, and of reference pictures, by their position ids; the rest is video.

    `first_reference`: the id with which the family numbers its first reference picture.
    """

    def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
        image = reference_tokens(arguments["img_ids"], first_reference)
        return {"text": arguments["encoder_hidden_states"].shape[1], "image": image}

    return token_counts


_counts_of_flux = counts_by_ids(first_reference=1)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Counts of text, and of reference pictures or examples; the rows of a sheet are numbered from 1."""
    counts, ids = _counts_of_flux(transformer, arguments), arguments["img_ids"]
    is_sheet = counts["image"] == ids.shape[-2]
    return counts | {"image": example_tokens(ids)} if is_sheet else counts


FAMILY = Family(
    name="flux",
    transformers=("FluxTransformer2DModel",),
    pipelines=(
        "FluxPipeline",
        "FluxImg2ImgPipeline",
        "FluxInpaintPipeline",
        "FluxFillPipeline",
        "FluxControlPipeline",
        "FluxControlImg2ImgPipeline",
        "FluxControlInpaintPipeline",
        "FluxControlNetPipeline",
        "FluxControlNetImg2ImgPipeline",
        "FluxControlNetInpaintPipeline",
        "FluxKontextPipeline",
        "FluxKontextInpaintPipeline",
        "VisualClozePipeline",
        "VisualClozeGenerationPipeline",
    ),
    stacks=stacks,
    reads=Reads(token_counts=token_counts),
    time=Time(scale=1.0),
)
