"""HunyuanImage 2.1 and its refiner: double- and single-stream blocks, keys in the order [video | text].

Text is that of both encoders. The refiner gets the picture to be refined in its channels.
"""

from __future__ import annotations

import math
from typing import Any

from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack

_DOUBLE = Site(
    "double",
    "attn",
    (KeyNorm("norm_k", ("video",)), KeyNorm("norm_added_k", ("text",))),
    is_joint=True,
    ignores_mask=True,
)
_SINGLE = Site("single", "attn", (KeyNorm("norm_k", ("video", "text")),), ignores_mask=True)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Video tokens from the latents; the rest is text, padding included."""
    sides = arguments["hidden_states"].shape[2:]
    return {"video": math.prod(side // patch for side, patch in zip(sides, transformer.config.patch_size, strict=True))}


WORDS_REFUSAL = "the transformer sorts the tokens of two text encoders anew, those that are no padding first."


FAMILY = Family(
    name="hunyuan_image",
    transformers=("HunyuanImageTransformer2DModel",),
    pipelines=("HunyuanImagePipeline", "HunyuanImageRefinerPipeline"),
    stacks=(Stack("transformer_blocks", (_DOUBLE,)), Stack("single_transformer_blocks", (_SINGLE,))),
    reads=Reads(words_refusal=WORDS_REFUSAL, token_counts=token_counts),
)
