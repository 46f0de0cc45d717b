"""Qwen-Image 2.1: one stack of blocks over [text | video], the text causal and with its reference pictures inside.

A reference picture lies where the language model had it in the prompt, elsewhere for each prompt: it counts as text.
Unless it is called with `use_kv_cache=False`, the pipeline computes the keys of the text at the first step and keeps
them, gain included, for all later ones: a gain on text would leave its window there, so it is refused then.
"""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Any

from alignvid.errors import AttachmentError
from alignvid.models.family import Arguments, Family, Grid, KeyNorm, Site, Stack

_SINGLE = Site("single", "attn", (KeyNorm("norm_k", ("text", "video")),), ignores_mask=True)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Tokens of the generated picture; the rest is text with its pictures, none once their keys are kept."""
    return {"video": math.prod(arguments["img_shapes"][0][-1])}


def picture_grid(transformer: Any, arguments: Arguments) -> Grid:
    """The tokens of the generated picture."""
    return Grid(0, *arguments["img_shapes"][0][-1][1:])


def check(arguments: Arguments, streams: Container[str]) -> None:
    """Refuse a gain on text whose keys are kept.

    Raises: AttachmentError if the pipeline uses its cache.
    """
    if arguments.get("kv_cache_mode") is not None and "text" in streams:
        raise AttachmentError(
            "QwenImage21Pipeline computes the keys of prompt and references once, at the first step, and keeps them "
            "for all others: a gain on them would act outside its window. Call it with use_kv_cache=False, or attach "
            "with streams=['video']."
        )


FAMILY = Family(
    name="qwen_image21",
    transformers=("QwenImage21Transformer2DModel",),
    pipelines=("QwenImage21Pipeline",),
    stacks=(Stack("transformer_blocks", (_SINGLE,)),),
    token_counts=token_counts,
    grids={"single.video": picture_grid},
    check=check,
    timestep_scale=1.0,
)
