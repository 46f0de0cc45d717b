"""Helios: long video in chunks, each of which looks back on packed history.

Self-attention sees [long | mid | short history | video]: the three kinds of history are the stream `history`; a
reference image is the first frame of it. Cross-attention sees the text. Where the model amplifies its history by a
learned factor, the gain multiplies that. The pyramid pipeline makes each chunk in stages of growing size; its history
has the full size from the first stage on.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack
from alignvid.models.reading.shapes import patch_grid

_SELF = Site("self", "attn1", (KeyNorm("norm_k", ("history", "video")),))
_CROSS = Site("cross", "attn2", (KeyNorm("norm_k", ("text",)),), text_through=("condition_embedder.text_embedder",))

# Latent name -> how many times its patches are larger than those of the video; inputs are padded up to whole patches.
_HISTORY_SCALES = {"latents_history_short": 1, "latents_history_mid": 2, "latents_history_long": 4}


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """History from its latents' shapes; the rest is video."""
    patch = transformer.config.patch_size
    return {"history": sum(_tokens(arguments.get(name), patch, scale) for name, scale in _HISTORY_SCALES.items())}


def _tokens(latents: Any, patch: tuple[int, ...], scale: int) -> int:
    if latents is None:
        return 0
    return math.prod(math.ceil(size / (step * scale)) for size, step in zip(latents.shape[2:], patch, strict=True))


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of a Helios transformer; its config says whether the history, too, asks the text."""
    asking = ("video",) if transformer.config.guidance_cross_attn else ()
    return (Stack("blocks", (_SELF, replace(_CROSS, queries=asking))),)


FAMILY = Family(
    name="helios",
    transformers=("HeliosTransformer3DModel",),
    pipelines=("HeliosPipeline", "HeliosPyramidPipeline"),
    stacks=stacks,
    reads=Reads(token_counts=token_counts, grids={"self.video": patch_grid}),
)
