"""Krea 2: one stack of joint blocks, one norm over [text | video]; queries have more heads than keys."""

from __future__ import annotations

from alignvid.models.family import Family, KeyNorm, Reads, Site, Stack, Time
from alignvid.models.reading.shapes import text_counts

FAMILY = Family(
    name="krea2",
    transformers=("Krea2Transformer2DModel",),
    pipelines=("Krea2Pipeline",),
    stacks=(Stack("transformer_blocks", (Site("single", "attn", (KeyNorm("norm_k", ("text", "video")),)),)),),
    reads=Reads(token_counts=text_counts),
    time=Time(scale=1.0),
)
