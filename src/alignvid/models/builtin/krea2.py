"""Krea 2: one stack of joint blocks, one norm over [text | video]; queries have more heads than keys."""

from __future__ import annotations

from alignvid.models.builtin.chroma import token_counts
from alignvid.models.family import Family, KeyNorm, Site, Stack

FAMILY = Family(
    name="krea2",
    transformers=("Krea2Transformer2DModel",),
    pipelines=("Krea2Pipeline",),
    stacks=(Stack("transformer_blocks", (Site("single", "attn", (KeyNorm("norm_k", ("text", "video")),)),)),),
    token_counts=token_counts,
    timestep_scale=1.0,
)
