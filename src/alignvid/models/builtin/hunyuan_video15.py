"""HunyuanVideo 1.5: text-to-video and image-to-video, double-stream blocks only.

Keys lie as [video | SigLIP image | glyphs | prompt | padding]. The image's tokens come first in the text stream, and
all of them are valid, so that their number says where the text begins; without an image they are padding at the end,
zeroed and masked, and everything counts as text. The reference also lies in the channels. A modular pipeline and a bare
transformer serve both tasks: whether there is an image is read from its embeddings, once per run, as the model does.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack, class_name
from alignvid.models.reading.per_tensor import PerTensor
from alignvid.models.reading.shapes import embedded_image_grid, patch_grid, reference_before_mask

_FROM_TEXT = ("HunyuanVideo15Pipeline",)

_image_tokens = PerTensor[int]()


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of the transformer; the pipeline says whether the text begins with an image."""
    text = ("text",) if class_name(pipeline) in _FROM_TEXT else ("image", "text")
    norms = (KeyNorm("norm_k", ("video",)), KeyNorm("norm_added_k", text))
    return (Stack("transformer_blocks", (Site("double", "attn", norms, is_joint=True, ignores_mask=True),)),)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Image tokens from their embeddings; the rest is text, or video."""
    embeddings = arguments["image_embeds"]
    return {"image": _image_tokens.of(embeddings, lambda: embeddings.shape[1] if bool(embeddings.any()) else 0)}


WORDS_REFUSAL = "the transformer sorts the tokens of two text encoders anew, those that are no padding first."


FAMILY = Family(
    name="hunyuan_video15",
    transformers=("HunyuanVideo15Transformer3DModel",),
    pipelines=("HunyuanVideo15Pipeline", "HunyuanVideo15ImageToVideoPipeline"),
    stacks=stacks,
    reads=Reads(
        words_refusal=WORDS_REFUSAL,
        token_counts=token_counts,
        grids={
            "double.video": patch_grid,
            "double.image": embedded_image_grid,
        },
        reference_channels=reference_before_mask,
    ),
)
