"""Gaussian blur: of the tokens of a grid, of latents. Pure functions of the pilot-study variants.

Source: the pilot study of arXiv 2512.01334. Its third variant blurs the image itself (alignvid.media.blur).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from alignvid.models.family import Grid

_REACH = 3.0  # in standard deviations; beyond lies 0.3 % of the weight


def reach(sigma: float) -> int:
    """How many neighbours on each side a blur looks at."""
    return math.ceil(_REACH * sigma)


def gaussian_weights(sigma: float, radius: int) -> Float[Tensor, " tap"]:
    """2·radius + 1 weights that add up to 1; with sigma 0 the middle one has all."""
    distance = torch.arange(-radius, radius + 1, dtype=torch.float32, device="cpu")
    if sigma == 0:
        return (distance == 0).float()
    weights = torch.exp(-0.5 * (distance / sigma) ** 2)
    return weights / weights.sum()


def blurred_pictures(
    pictures: Float[Tensor, "batch channel height width"], weights: Float[Tensor, " tap"]
) -> Float[Tensor, "batch channel height width"]:
    """Each channel blurred along both sides; outside, the edge is repeated."""
    radius, taps = len(weights) // 2, weights.to(pictures.device)
    planes = pictures.float().flatten(0, 1).unsqueeze(1)  # -> (batch * channel, 1, height, width)
    padded = functional.pad(planes, (radius,) * 4, mode="replicate")
    rows = functional.conv2d(padded, taps.view(1, 1, -1, 1))
    return functional.conv2d(rows, taps.view(1, 1, 1, -1)).view(pictures.shape).to(pictures.dtype)


def blurred_tokens(
    tokens: Float[Tensor, "batch token width"], grid: Grid, weights: Float[Tensor, " tap"]
) -> Float[Tensor, "batch token width"]:
    """Tokens blurred within each picture of their grid; those before a grid stay."""
    per_picture = grid.before + grid.height * grid.width
    before, inside = tokens.unflatten(1, (-1, per_picture)).split([grid.before, per_picture - grid.before], 2)
    pictures = inside.unflatten(2, (grid.height, grid.width)).flatten(0, 1).permute(0, 3, 1, 2)
    flat = blurred_pictures(pictures, weights).permute(0, 2, 3, 1).reshape(inside.shape)
    return torch.cat([before, flat], 2).flatten(1, 2)
