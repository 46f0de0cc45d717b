"""Kandinsky 5: text-to-video and image-to-video, and pictures alike.

Norms are called query_norm and key_norm. In image-to-video the first latent frame is kept clean: a prefix of the
sequence; the reference also lies in the channels. In image-to-image the text ends with what the language model made of
the picture, the stream `vision`. Latents are (batch, frames, height, width, channels). With sparse
attention (nabla) the mask is made from the scaled keys, so that a gain also changes which blocks of keys are seen.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.family import Arguments, Family, Grid, KeyNorm, Reads, Site, Stack, TextRows, class_name
from alignvid.models.reading.vision_tokens import reads_pictures, vision_span, watch

_FROM_IMAGE = ("Kandinsky5I2VPipeline",)
_READING_PICTURES = ("Kandinsky5I2IPipeline",)


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of the transformer; the pipeline says whether the sequence begins with a reference frame."""
    video = ("image", "video") if class_name(pipeline) in _FROM_IMAGE else ("video",)
    keys = (KeyNorm("key_norm", video),)
    self_attention = Site("self", "self_attention", keys, query_norm="query_norm", ignores_mask=True)
    sees = class_name(pipeline) in _READING_PICTURES and reads_pictures(pipeline)
    text = (KeyNorm("key_norm", ("text", "vision") if sees else ("text",)),)
    cross = Site("cross", "cross_attention", text, query_norm="query_norm", ignores_mask=True)
    return (Stack("visual_transformer_blocks", (self_attention, cross)),)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int | None]:
    """One latent frame of reference tokens, the rest is video; from the first vision token on, no text."""
    frame = frame_grid(transformer, arguments)
    embedding = arguments["encoder_hidden_states"]
    span = vision_span(embedding)
    vision = embedding.shape[1] - span.start if span else None if span is None else 0
    return {"image": frame.height * frame.width, "vision": vision}


def prompts(transformer: Any, arguments: Arguments) -> tuple[TextRows, ...]:
    """The rows before those of the picture."""
    states = arguments["encoder_hidden_states"]
    span = vision_span(states)
    return (TextRows(states, 0, span.start if span else None),)


def frame_grid(transformer: Any, arguments: Arguments) -> Grid:
    """The tokens of one latent frame."""
    _, _, height, width, _ = arguments["hidden_states"].shape
    _, patch_height, patch_width = transformer.config.patch_size
    return Grid(0, height // patch_height, width // patch_width)


FAMILY = Family(
    name="kandinsky5",
    transformers=("Kandinsky5Transformer3DModel",),
    pipelines=("Kandinsky5T2VPipeline", "Kandinsky5I2VPipeline", "Kandinsky5T2IPipeline", "Kandinsky5I2IPipeline"),
    stacks=stacks,
    reads=Reads(token_counts=token_counts, prompts=prompts, watch=watch),
)
