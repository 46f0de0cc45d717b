"""What several families read alike from the shapes of a forward's arguments: counts of tokens, and grids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from alignvid.models.family import Arguments, Grid, ReferenceChannels


def square_grid(tokens: int) -> Grid:
    """The largest square that tokens fill, as those of a vision encoder; what is left over comes before it."""
    side = math.isqrt(tokens)
    return Grid(tokens - side * side, side, side)


def patch_grid(transformer: Any, arguments: Arguments) -> Grid:
    """The tokens of a generated picture, or of one latent frame, from the sides of the latents (…, height, width)."""
    height, width = arguments["hidden_states"].shape[-2:]
    patch = transformer.config.patch_size
    patch_height, patch_width = patch[-2:] if isinstance(patch, Sequence) else (patch, patch)
    return Grid(0, height // patch_height, width // patch_width)


def embedded_image_grid(transformer: Any, arguments: Arguments) -> Grid:
    """The patches of the reference image, as a vision encoder gives them."""
    return square_grid(arguments["image_embeds"].shape[1])


def text_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Text from its embeddings, padding included; the rest is video."""
    return {"text": arguments["encoder_hidden_states"].shape[1]}


def picture_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Tokens of the generated picture from its latents; the rest is text, and whatever else the norm sees."""
    grid = patch_grid(transformer, arguments)
    return {"video": grid.height * grid.width}


def first_frame_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """One latent frame of reference tokens; the rest is video."""
    frame = patch_grid(transformer, arguments)
    return {"image": frame.height * frame.width}


def attended_text(transformer: Any, arguments: Arguments) -> dict[str, Tensor]:
    """Which tokens of the text are no padding, where it is padded to one length and a mask says so."""
    mask = arguments.get("encoder_attention_mask")
    return {} if mask is None else {"text": mask}


def have_one_length(mask: Tensor) -> bool:
    """Whether all texts of a batch have as many tokens, by their mask, (batch, tokens). Models fetch the sums, too."""
    return len(mask) == 1 or len(set(mask.sum(1).tolist())) == 1


def reference_before_mask(transformer: Any) -> ReferenceChannels | None:
    """Image-to-video by channels: noise, the latents of the reference, and a mask of 1."""
    noise = transformer.config.out_channels
    is_concat = transformer.config.in_channels == 2 * noise + 1
    return ReferenceChannels("x_embedder", noise, 2 * noise) if is_concat else None
