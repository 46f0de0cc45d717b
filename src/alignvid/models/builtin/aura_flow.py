"""AuraFlow: joint and single-stream blocks, keys in the order [text | video].

The text group begins with the model's own register tokens, which count as text. Timesteps run 1..0, and both passes of
guidance are one batch.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack, TextRows, Time
from alignvid.models.reading.shapes import patch_grid, picture_counts

_DOUBLE = Site(
    "double",
    "attn",
    (KeyNorm("norm_k", ("video",)), KeyNorm("norm_added_k", ("text",))),
    is_joint=True,
    joint_order=("text", "video"),
    ignores_mask=True,
)
_SINGLE = Site("single", "attn", (KeyNorm("norm_k", ("text", "video")),), ignores_mask=True)


def prompts(transformer: Any, arguments: Arguments) -> tuple[int | TextRows, ...]:
    """The registers, then the prompt."""
    return transformer.register_tokens.shape[1], TextRows(arguments["encoder_hidden_states"])


FAMILY = Family(
    name="aura_flow",
    transformers=("AuraFlowTransformer2DModel",),
    pipelines=("AuraFlowPipeline",),
    stacks=(Stack("joint_transformer_blocks", (_DOUBLE,)), Stack("single_transformer_blocks", (_SINGLE,))),
    reads=Reads(
        token_counts=picture_counts, prompts=prompts, grids={"double.video": patch_grid, "single.video": patch_grid}
    ),
    time=Time(scale=1.0, batch_order=("uncond", "cond")),
)
