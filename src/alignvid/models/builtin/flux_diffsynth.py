"""Flux as DiffSynth has it, Kontext included, run by `model_fn_flux_image`: the family `flux` by other names.

Keys lie as [text | video | image]; `image` are Kontext's and Step1X's reference pictures. A single-stream block is its
own attention. Written against diffsynth 2.1.12.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.builtin.wan_diffsynth import forget_tea_cache, tea_cache
from alignvid.models.family import Arguments, Family, Grid, KeyNorm, OwnCache, Reads, Site, Stack, Time
from alignvid.models.sizes import Sizes

_PATCH = 2
_PICTURES = KeyNorm("norm_k_a", ("video", "image"), sequence_dim=2)
_DOUBLE = Site(
    "double",
    "attn",
    (_PICTURES, KeyNorm("norm_k_b", ("text",), sequence_dim=2)),
    is_joint=True,
    joint_order=("text", "video", "image"),
    ignores_mask=True,
    query_norm="norm_q_a",
)
_SINGLE = Site(
    "single",
    "",
    (KeyNorm("norm_k_a", ("text", "video", "image"), sequence_dim=2),),
    ignores_mask=True,
    query_norm="norm_q_a",
)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Tokens of the generated picture and of the references; the rest is text, but in tiles, which are cut inside."""
    if arguments.get("tiled"):
        return {"text": arguments["prompt_emb"].shape[1], "image": 0}
    grid, kontext = picture_grid(transformer, arguments), arguments.get("kontext_latents")
    step1x = arguments.get("step1x_reference_latents")
    references = 0 if kontext is None else kontext.shape[1]
    if step1x is not None:
        references += (step1x.shape[-2] // _PATCH) * (step1x.shape[-1] // _PATCH)
    return {"video": grid.height * grid.width, "image": references}


def picture_grid(transformer: Any, arguments: Arguments) -> Grid:
    """The generated picture."""
    height, width = arguments["latents"].shape[-2:]
    return Grid(0, height // _PATCH, width // _PATCH)


def sizes(transformer: Any) -> Sizes:
    """Heads and width, from its first single-stream block."""
    block = transformer.single_blocks[0]
    return Sizes(block.num_heads, block.dim)


FAMILY = Family(
    name="flux-diffsynth",
    transformers=("diffsynth.models.flux_dit:FluxDiT",),
    stacks=(Stack("blocks", (_DOUBLE,)), Stack("single_blocks", (_SINGLE,))),
    reads=Reads(
        token_counts=token_counts,
        grids={"single.video": picture_grid, "double.video": picture_grid},
        cache=OwnCache(tea_cache, forget_tea_cache),
    ),
    time=Time(text="prompt_emb"),
    sizes=sizes,
    presets_of="flux",
)
