"""CogView 4: one stack of joint blocks, one norm over [text | video]; control pictures come in the channels."""

from __future__ import annotations

from alignvid.models.family import Family, KeyNorm, Reads, Site, Stack
from alignvid.models.reading.shapes import patch_grid, text_counts

_SINGLE = Site("single", "attn1", (KeyNorm("norm_k", ("text", "video"), sequence_dim=2),), ignores_mask=True)


FAMILY = Family(
    name="cogview4",
    transformers=("CogView4Transformer2DModel",),
    pipelines=("CogView4Pipeline", "CogView4ControlPipeline"),
    stacks=(Stack("transformer_blocks", (_SINGLE,)),),
    reads=Reads(token_counts=text_counts, grids={"single.video": patch_grid}),
)
