"""Bria Fibo 2: one stack of joint blocks over [text | video | image], and cross-attention to the text in some of them.

In the joint blocks the text is a gist of it: more tokens for a longer prompt. `image` are the pictures that are edited.
Timesteps run 1..0.
"""

from __future__ import annotations

from typing import Any

from alignvid.errors import AttachmentError
from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack, Time
from alignvid.models.reading.shapes import have_one_length, patch_grid, picture_counts

_SINGLE = Site("single", "attention", (KeyNorm("norm_k", ("text", "video", "image")),), ignores_mask=True)
_CROSS = Site("cross", "cross_attention", (KeyNorm("norm_k", ("text",)),), ignores_mask=True, is_optional=True)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Tokens of the generated picture and of the references from their latents; the rest is the gist.

    Raises: AttachmentError if texts of a batch differ in length: then the gist lies behind the pictures.
    """
    mask = arguments.get("encoder_attention_mask")
    if mask is not None and not have_one_length(mask):
        raise AttachmentError(
            "Prompts of different length in one batch put Fibo 2's streams in another order; run them one by one."
        )
    references = arguments.get("context_latents") or []
    image = sum(latents.shape[-2] * latents.shape[-1] for latents in references) // transformer.config.patch_size**2
    return picture_counts(transformer, arguments) | {"image": image}


WORDS_REFUSAL = "the joint blocks see a gist of the text, whose tokens are no words."


FAMILY = Family(
    name="bria_fibo2",
    transformers=("BriaFibo2Transformer2DModel",),
    pipelines=("BriaFibo2Pipeline",),
    stacks=(Stack("layers", (_SINGLE, _CROSS)),),
    reads=Reads(words_refusal=WORDS_REFUSAL, token_counts=token_counts, grids={"single.video": patch_grid}),
    time=Time(scale=1.0),
)
