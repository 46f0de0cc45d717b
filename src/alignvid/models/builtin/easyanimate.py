"""EasyAnimate: text-to-video, inpainting and control. Keys lie as [text | video]; references lie in the channels.

The first blocks have one norm for video and one for text, those after `mmdit_layers` one over both.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.family import Family, KeyNorm, Reads, Site, Stack, Time
from alignvid.models.reading.shapes import patch_grid, text_counts


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of the transformer; its config says how many blocks are double-stream."""
    doubles, count = transformer.config.mmdit_layers, transformer.config.num_layers
    norms = (KeyNorm("norm_k", ("video",), sequence_dim=2), KeyNorm("norm_added_k", ("text",), sequence_dim=2))
    single = (KeyNorm("norm_k", ("text", "video"), sequence_dim=2),)
    sites = (
        Site(
            "double",
            "attn1",
            norms,
            is_joint=True,
            joint_order=("text", "video"),
            ignores_mask=True,
            blocks=range(min(doubles, count)),
        ),
        Site("single", "attn1", single, ignores_mask=True, blocks=range(doubles, count)),
    )
    return (Stack("transformer_blocks", tuple(site for site in sites if site.blocks)),)


FAMILY = Family(
    name="easyanimate",
    transformers=("EasyAnimateTransformer3DModel",),
    pipelines=("EasyAnimatePipeline", "EasyAnimateInpaintPipeline"),
    stacks=stacks,
    reads=Reads(token_counts=text_counts, grids={"double.video": patch_grid, "single.video": patch_grid}),
    time=Time(batch_order=("uncond", "cond")),
)
