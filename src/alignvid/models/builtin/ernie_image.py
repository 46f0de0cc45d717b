"""ERNIE-Image: one stack of joint blocks, one norm over [video | text], both passes of guidance in one batch."""

from __future__ import annotations

from typing import Any

from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack, Time
from alignvid.models.reading.shapes import patch_grid

_SINGLE = Site("single", "self_attention", (KeyNorm("norm_k", ("video", "text")),), ignores_mask=True)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Text from its embeddings, padding included; the rest is video."""
    return {"text": arguments["text_bth"].shape[1]}


FAMILY = Family(
    name="ernie_image",
    transformers=("ErnieImageTransformer2DModel",),
    pipelines=("ErnieImagePipeline",),
    stacks=(Stack("layers", (_SINGLE,)),),
    reads=Reads(token_counts=token_counts, grids={"single.video": patch_grid}),
    time=Time(text="text_bth", batch_order=("uncond", "cond")),
)
