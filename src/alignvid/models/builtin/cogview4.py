"""CogView 4: one stack of joint blocks, one norm over [text | video]; control pictures come in the channels."""

from __future__ import annotations

from typing import Any

from alignvid.models.family import Arguments, Family, KeyNorm, Site, Stack, patch_grid

_SINGLE = Site("single", "attn1", (KeyNorm("norm_k", ("text", "video"), sequence_dim=2),), ignores_mask=True)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Text from its embeddings, padding included; the rest is video."""
    return {"text": arguments["encoder_hidden_states"].shape[1]}


FAMILY = Family(
    name="cogview4",
    transformers=("CogView4Transformer2DModel",),
    pipelines=("CogView4Pipeline", "CogView4ControlPipeline"),
    stacks=(Stack("transformer_blocks", (_SINGLE,)),),
    token_counts=token_counts,
    grids={"single.video": patch_grid},
)
