"""HunyuanDiT: self-attention within the picture, cross-attention to the text of both encoders."""

from __future__ import annotations

from typing import Any

from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack, TextRows, Time
from alignvid.models.reading.shapes import patch_grid

_CROSS = Site("cross", "attn2", (KeyNorm("norm_k", ("text",), sequence_dim=2),))
_SELF = Site("self", "attn1", (KeyNorm("norm_k", ("video",), sequence_dim=2),))


def prompts(transformer: Any, arguments: Arguments) -> tuple[TextRows, ...]:
    """Both encoders' readings of the prompt, one after the other."""
    return TextRows(arguments["encoder_hidden_states"]), TextRows(arguments["encoder_hidden_states_t5"])


FAMILY = Family(
    name="hunyuan_dit",
    transformers=("HunyuanDiT2DModel",),
    pipelines=("HunyuanDiTPipeline", "HunyuanDiTControlNetPipeline"),
    stacks=(Stack("blocks", (_SELF, _CROSS)),),
    reads=Reads(prompts=prompts, grids={"self.video": patch_grid}),
    time=Time(batch_order=("uncond", "cond")),
)
