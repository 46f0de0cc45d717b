"""Motif-Video: text-to-video and image-to-video.

Keys lie as [video | SigLIP image | text] in double- and single-stream blocks; some have a cross-attention to the text
besides. The last `num_decoder_layers` single-stream blocks see the video twice, as it is decoded and as it was encoded,
and no text: the site `decoder`.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack, class_name
from alignvid.models.reading.shapes import attended_text, embedded_image_grid, patch_grid, reference_before_mask

_FROM_TEXT = ("MotifVideoPipeline",)
_CROSS = Site("cross", "cross_attn", (KeyNorm("norm_k", ("text",)),), queries=("video",), is_optional=True)


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of the transformer; the pipeline says whether the text begins with an image."""
    text = ("text",) if class_name(pipeline) in _FROM_TEXT else ("image", "text")
    count = transformer.config.num_single_layers
    encoders = count - transformer.config.num_decoder_layers
    double = Site("double", "attn", (KeyNorm("norm_k", ("video",)), KeyNorm("norm_added_k", text)), is_joint=True)
    single = Site("single", "attn", (KeyNorm("norm_k", ("video", *text)),), blocks=range(encoders))
    decoder = Site("decoder", "attn", (KeyNorm("norm_k", ("video",)),), blocks=range(encoders, count))
    sites = tuple(site for site in (single, decoder) if site.blocks)
    return Stack("transformer_blocks", (double, _CROSS)), Stack("single_transformer_blocks", (*sites, _CROSS))


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Video and image from shapes; the rest is text."""
    image, frame = arguments.get("image_embeds"), patch_grid(transformer, arguments)
    frames = arguments["hidden_states"].shape[2] // transformer.config.patch_size_t
    return {"video": frames * frame.height * frame.width, "image": 0 if image is None else image.shape[1]}


FAMILY = Family(
    name="motif_video",
    transformers=("MotifVideoTransformer3DModel",),
    pipelines=("MotifVideoPipeline", "MotifVideoImage2VideoPipeline"),
    stacks=stacks,
    reads=Reads(
        token_counts=token_counts,
        attended=attended_text,
        grids={
            "double.video": patch_grid,
            "single.video": patch_grid,
            "double.image": embedded_image_grid,
            "single.image": embedded_image_grid,
        },
        reference_channels=reference_before_mask,
    ),
)
