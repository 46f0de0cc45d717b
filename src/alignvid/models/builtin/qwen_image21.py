"""Qwen-Image 2.1: one stack of blocks over [image | text | video], of which image and text are causal.

`image` are the reference pictures, which lie where the language model had them: at the beginning of the prompt, with
the few words of the template before and between them. Unless it is called with `use_kv_cache=False`, the pipeline
computes the keys of both at the first step and keeps them, gain included, for all later ones: a gain on them would
leave its window there, so it is refused then.
"""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Any

from torch import Tensor

from alignvid.errors import AttachmentError
from alignvid.models.family import Arguments, Family, Grid, KeyNorm, Reads, Site, Stack, Time
from alignvid.models.reading.per_tensor import PerTensor

_SINGLE = Site("single", "attn", (KeyNorm("norm_k", ("image", "text", "video")),), ignores_mask=True)
_TOKENS_PER_SLOT = 4

_last_slots = PerTensor[int]()


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Tokens of the generated picture, and those up to the end of the last reference; the rest is text. Once their keys
    are kept, there is neither.
    """
    video = math.prod(arguments["img_shapes"][0][-1])
    if arguments.get("kv_cache_mode") == "cached":
        return {"image": 0, "video": video}
    slots, mask = _slots_of_references(arguments["img_shapes"][0]), arguments["img_mask"]
    return {"image": _end_of_references(mask, slots) + (_TOKENS_PER_SLOT - 1) * slots if slots else 0, "video": video}


def _slots_of_references(shapes: list[tuple[int, int, int]]) -> int:
    """In the language model's prompt, where each stands for a square of tokens."""
    return sum(math.prod(shape) for shape in shapes[:-1]) // _TOKENS_PER_SLOT


def _end_of_references(mask: Tensor, slots: int) -> int:
    """Where the last slot of a reference ends in the prompt.

    `mask`: (batch, prompt and generated picture), true at slots; samples share a layout.
    """
    return _last_slots.of(mask, lambda: int(mask[0].nonzero()[slots - 1]) + 1)


def picture_grid(transformer: Any, arguments: Arguments) -> Grid:
    """The tokens of the generated picture."""
    return Grid(0, *arguments["img_shapes"][0][-1][1:])


def check(arguments: Arguments, streams: Container[str]) -> None:
    """Refuse a gain on text or references whose keys are kept.

    Raises: AttachmentError if the pipeline uses its cache.
    """
    if arguments.get("kv_cache_mode") is not None and ("text" in streams or "image" in streams):
        raise AttachmentError(
            "QwenImage21Pipeline computes the keys of prompt and references once, at the first step, and keeps them "
            "for all others: a gain on them would act outside its window. Call it with use_kv_cache=False, or attach "
            "with streams=['video']."
        )


WORDS_REFUSAL = "its text lies in runs between pictures."


FAMILY = Family(
    name="qwen_image21",
    transformers=("QwenImage21Transformer2DModel",),
    pipelines=("QwenImage21Pipeline",),
    stacks=(Stack("transformer_blocks", (_SINGLE,)),),
    reads=Reads(
        words_refusal=WORDS_REFUSAL, token_counts=token_counts, grids={"single.video": picture_grid}, check=check
    ),
    time=Time(scale=1.0),
)
