"""Latte: text-to-video without norms on queries and keys; a neutral one is put on the keys while attached.

Spatial blocks attend within a frame and to the text, temporal blocks along time at one place. Each frame, or each
place, is a sample of its own there.
"""

from __future__ import annotations

from alignvid.models.family import Family, KeyNorm, Site, Stack


def _norm(stream: str) -> tuple[KeyNorm, ...]:
    return (KeyNorm("norm_k", (stream,), sequence_dim=2, is_insertable=True),)


FAMILY = Family(
    name="latte",
    transformers=("LatteTransformer3DModel",),
    pipelines=("LattePipeline",),
    stacks=(
        Stack("transformer_blocks", (Site("self", "attn1", _norm("video")), Site("cross", "attn2", _norm("text")))),
        Stack("temporal_transformer_blocks", (Site("temporal", "attn1", _norm("video")),)),
    ),
    batch_order=("uncond", "cond"),
)
