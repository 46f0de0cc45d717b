"""HunyuanVideo 1.5: text-to-video and image-to-video, double-stream blocks only.

Keys lie as [video | SigLIP image | glyphs | prompt | padding]. The image's tokens come first in the text stream, and
all of them are valid, so that their number tells where the text begins; without an image they are padding at the end,
zeroed and masked, and everything counts as text. The reference also lies in the channels. A modular pipeline and a bare
transformer serve both tasks: whether there is an image is read from its embeddings, once per run, as the model does.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.family import Arguments, Family, KeyNorm, ReferenceChannels, Site, Stack, class_name, square_grid
from alignvid.models.family import patch_grid as frame_grid
from alignvid.models.reading.per_tensor import PerTensor

_FROM_TEXT = ("HunyuanVideo15Pipeline",)

_image_tokens = PerTensor[int]()


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of the transformer; the pipeline tells whether the text begins with an image."""
    text = ("text",) if class_name(pipeline) in _FROM_TEXT else ("image", "text")
    norms = (KeyNorm("norm_k", ("video",)), KeyNorm("norm_added_k", text))
    return (Stack("transformer_blocks", (Site("double", "attn", norms, is_joint=True, ignores_mask=True),)),)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Image tokens from their embeddings; the rest is text, or video."""
    embeddings = arguments["image_embeds"]
    return {"image": _image_tokens.of(embeddings, lambda: embeddings.shape[1] if bool(embeddings.any()) else 0)}


def reference_channels(transformer: Any) -> ReferenceChannels | None:
    """Noise, the latents of the reference, and a mask of 1."""
    noise = transformer.config.out_channels
    is_concat = transformer.config.in_channels == 2 * noise + 1
    return ReferenceChannels("x_embedder", noise, 2 * noise) if is_concat else None


FAMILY = Family(
    name="hunyuan_video15",
    transformers=("HunyuanVideo15Transformer3DModel",),
    pipelines=("HunyuanVideo15Pipeline", "HunyuanVideo15ImageToVideoPipeline"),
    stacks=stacks,
    token_counts=token_counts,
    grids={
        "double.video": frame_grid,
        "double.image": lambda _, arguments: square_grid(arguments["image_embeds"].shape[1]),
    },
    reference_channels=reference_channels,
)
