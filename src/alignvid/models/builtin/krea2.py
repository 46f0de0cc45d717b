"""Krea 2: one stack of joint blocks, one norm over [text | video]; queries have more heads than keys."""

from __future__ import annotations

from alignvid.models.family import Family, KeyNorm, Reads, Site, Stack, Time
from alignvid.models.reading.shapes import text_counts

WORDS_REFUSAL = "its transformer is given several layers of each token side by side."


FAMILY = Family(
    name="krea2",
    transformers=("Krea2Transformer2DModel",),
    pipelines=("Krea2Pipeline",),
    stacks=(Stack("transformer_blocks", (Site("single", "attn", (KeyNorm("norm_k", ("text", "video")),)),)),),
    reads=Reads(words_refusal=WORDS_REFUSAL, token_counts=text_counts),
    time=Time(scale=1.0),
)
