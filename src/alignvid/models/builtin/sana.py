"""Sana and Sana-Sprint: cross-attention to the text without norms on its keys, linear attention within the picture.

A neutral norm is put before the text keys while a gain acts. Linear attention divides by the sum of its weights, so
that one factor on all keys cancels: there is nothing to gain there.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.family import Family, KeyNorm, Site, Stack, Time

_CROSS = Site("cross", "attn2", (KeyNorm("norm_k", ("text",), is_insertable=True),), queries=("video",))
_LINEAR = Site(
    "self",
    "attn1",
    (KeyNorm("norm_k", ("video",)),),
    refusal="Linear attention divides by the sum of its weights, so that one factor on all of its keys cancels.",
)


def timestep_scale(transformer: Any) -> float:
    """Sana-Sprint, which is the one that embeds the guidance, is given the share of noise."""
    config = transformer.config
    return 1.0 if config.guidance_embeds else 1000.0 * config.timestep_scale


FAMILY = Family(
    name="sana",
    transformers=("SanaTransformer2DModel",),
    pipelines=("SanaPipeline", "SanaControlNetPipeline", "SanaSprintPipeline", "SanaSprintImg2ImgPipeline"),
    stacks=(Stack("transformer_blocks", (_CROSS, _LINEAR)),),
    time=Time(scale=timestep_scale, batch_order=("uncond", "cond")),
)
