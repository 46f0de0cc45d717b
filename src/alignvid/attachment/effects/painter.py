"""The effect of Painter: the reference's channels of the transformer's input, frame by frame.

    d = c_t − c_0;  m = mean of d over channels, height and width;  c_t ← clamp(c_0 + amount · (d − m) + m, −6, 6)

for latent frames t ≥ 1. Source: the rule of PainterI2V.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from alignvid.attachment.effect import Installed
from alignvid.attachment.effects.reference import OnReference, at_its_door, channels_of
from alignvid.attachment.placement import Placement
from alignvid.host.transformers import Host
from alignvid.models.family import ReferenceChannels
from alignvid.modulation.painter import Painter

_LARGEST = 6.0  # the source's clamp, in units of latents


def pushed_away(
    condition: Float[Tensor, "batch channel frame height width"], amount: float
) -> Float[Tensor, "batch channel frame height width"]:
    """The condition with its later frames further from the first one; an amount of 1 gives it back as it is."""
    if amount == 1.0:
        return condition
    first, later = condition[:, :, :1], condition[:, :, 1:]
    difference = later - first
    mean = difference.mean((1, 3, 4), keepdim=True)
    pushed = first + amount * (difference - mean) + mean
    return torch.cat([first, pushed.clamp(-_LARGEST, _LARGEST)], 2)


class PaintedReference(OnReference):
    """Pushes the later frames of the reference's channels away from the first."""

    def __init__(self, amount: float, channels: ReferenceChannels) -> None:
        super().__init__(channels)
        self.amount = amount

    def made_of(self, reference: Tensor) -> Tensor:
        """The condition, pushed."""
        return pushed_away(reference, self.amount)


def painter_effects(modulation: Painter, host: Host, placements: Sequence[Placement]) -> list[Installed]:
    """One effect at the door of a transformer.

    Raises: UnknownTarget if its input does not hold a reference image.
    """
    return at_its_door(host, PaintedReference(modulation.amount, channels_of(host, "to change")))
