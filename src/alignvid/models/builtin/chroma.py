"""Chroma: Flux's blocks without pooled text, [text | video]; its single-stream blocks get one joined sequence."""

from __future__ import annotations

from typing import Any

from alignvid.models.builtin.flux import double_and_single
from alignvid.models.family import Arguments, Family


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Text from its embeddings, padding included; the rest is video."""
    return {"text": arguments["encoder_hidden_states"].shape[1]}


FAMILY = Family(
    name="chroma",
    transformers=("ChromaTransformer2DModel",),
    pipelines=("ChromaPipeline", "ChromaImg2ImgPipeline"),
    stacks=double_and_single(("video",)),
    token_counts=token_counts,
    timestep_scale=1.0,
)
