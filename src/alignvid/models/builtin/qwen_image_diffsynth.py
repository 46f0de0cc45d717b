"""Qwen-Image as DiffSynth has it, run by `model_fn_qwen_image`: the family `qwen_image` by other names.

All blocks are double-stream, keys as [text | video | image]; `image` are all pictures but the generated ones: those to
edit, of context, to take into layers. What the language model made of pictures lies inside the text, and counts as
text. Written against diffsynth 2.1.12.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.family import Arguments, Family, Grid, KeyNorm, Reads, Site, Stack, Time
from alignvid.models.sizes import Sizes

_PATCH = 2
_DOUBLE = Site(
    "double",
    "attn",
    (KeyNorm("norm_k", ("video", "image"), sequence_dim=2), KeyNorm("norm_added_k", ("text",), sequence_dim=2)),
    is_joint=True,
    joint_order=("text", "video", "image"),
    ignores_mask=True,
)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Tokens of the generated picture or layers; the rest of the pictures are references."""
    grid, layers = picture_grid(transformer, arguments), arguments.get("layer_num")
    return {"video": grid.height * grid.width * (1 if layers is None else 1 + layers)}


def picture_grid(transformer: Any, arguments: Arguments) -> Grid:
    """The generated picture, or each of its layers."""
    height, width = arguments["latents"].shape[-2:]
    return Grid(0, height // _PATCH, width // _PATCH)


def sizes(transformer: Any) -> Sizes:
    """Heads and width, from its first block."""
    block = transformer.transformer_blocks[0]
    return Sizes(block.num_attention_heads, block.dim)


FAMILY = Family(
    name="qwen-image-diffsynth",
    transformers=("diffsynth.models.qwen_image_dit:QwenImageDiT",),
    stacks=(Stack("transformer_blocks", (_DOUBLE,)),),
    reads=Reads(token_counts=token_counts, grids={"double.video": picture_grid}),
    time=Time(text="prompt_emb"),
    sizes=sizes,
    presets_of="qwen_image",
)
