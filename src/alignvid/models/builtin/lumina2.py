"""Lumina-Image 2: one stack of joint blocks, keys in the order [text | video], the text without its padding.

Queries have more heads than keys. Timesteps ascend from 0 at pure noise to 1.
"""

from __future__ import annotations

from typing import Any

from alignvid.errors import AttachmentError
from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack, Time
from alignvid.models.reading.shapes import have_one_length, patch_grid, picture_counts

_SINGLE = Site("single", "attn", (KeyNorm("norm_k", ("text", "video")),), ignores_mask=True)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Video tokens from the latents; the rest is text, if all texts of the batch have one length.

    Raises: AttachmentError if they have not: then each sample's text ends elsewhere.
    """
    mask = arguments["encoder_attention_mask"]
    if not have_one_length(mask):
        raise AttachmentError(
            "Prompts of different length in one batch cannot be separated from the picture in Lumina 2; run them "
            "one by one."
        )
    return picture_counts(transformer, arguments)


FAMILY = Family(
    name="lumina2",
    transformers=("Lumina2Transformer2DModel",),
    pipelines=("Lumina2Pipeline",),
    stacks=(Stack("layers", (_SINGLE,)),),
    reads=Reads(token_counts=token_counts, grids={"single.video": patch_grid}),
    time=Time(scale=1.0, is_ascending=True),
)
