"""Bria Fibo 2: one stack of joint blocks over [text | video | image], and cross-attention to the text in some of them.

In the joint blocks the text is a gist of it: more tokens for a longer prompt. `image` are the pictures that are edited.
Timesteps run 1..0.
"""

from __future__ import annotations

from typing import Any

from alignvid.errors import AttachmentError
from alignvid.models.family import Arguments, Family, KeyNorm, Site, Stack, patch_grid

_SINGLE = Site("single", "attention", (KeyNorm("norm_k", ("text", "video", "image")),), ignores_mask=True)
_CROSS = Site("cross", "cross_attention", (KeyNorm("norm_k", ("text",)),), ignores_mask=True)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Tokens of the generated picture and of the references from their latents; the rest is the gist.

    Raises: AttachmentError if texts of a batch differ in length: then the gist lies behind the pictures.
    """
    mask = arguments.get("encoder_attention_mask")
    if mask is not None and len(mask) > 1 and len(set(mask.sum(1).tolist())) > 1:  # the model fetches these sums, too
        raise AttachmentError(
            "Prompts of different length in one batch put Fibo 2's streams in another order; run them one by one."
        )
    grid = patch_grid(transformer, arguments)
    references = arguments.get("context_latents") or []
    image = sum(latents.shape[-2] * latents.shape[-1] for latents in references) // transformer.config.patch_size**2
    return {"video": grid.height * grid.width, "image": image}


FAMILY = Family(
    name="bria_fibo2",
    transformers=("BriaFibo2Transformer2DModel",),
    pipelines=("BriaFibo2Pipeline",),
    stacks=(Stack("layers", (_SINGLE, _CROSS)),),
    token_counts=token_counts,
    grids={"single.video": patch_grid},
    timestep_scale=1.0,
)
