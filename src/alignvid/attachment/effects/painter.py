"""The effect of Painter: the reference's channels of the transformer's input, frame by frame.

    d = c_t − c_0;  m = mean of d over channels, height and width;  c_t ← clamp(c_0 + amount · (d − m) + m, −6, 6)

for latent frames t ≥ 1. Source: the rule of PainterI2V.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from alignvid.attachment.effect import Installed, SwitchedEffect, by_sample
from alignvid.attachment.placement import Placement
from alignvid.errors import UnknownTarget
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


class PaintedReference(SwitchedEffect):
    """Pushes the later frames of the reference's channels away from the first."""

    is_neutral_in_graph = False

    def __init__(self, amount: float, channels: ReferenceChannels) -> None:
        super().__init__()
        self.amount, self.channels = amount, channels

    def on_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The input with another condition."""
        latents, (_, start, stop) = args[0], self.channels  # (batch, channel, frame, height, width)
        pushed = pushed_away(latents[:, start:stop], self.amount)
        changed, switch = torch.cat([latents[:, :start], pushed, latents[:, stop:]], 1), self.now.switch
        if switch.ndim > 0:
            changed = torch.where(by_sample(switch, latents) > 0, changed, latents)
        return (changed, *args[1:]), kwargs


def painter_effects(modulation: Painter, host: Host, placements: Sequence[Placement]) -> list[Installed]:
    """One effect at the door of a transformer.

    Raises: UnknownTarget if its input does not hold a reference image.
    """
    channels = host.family.reference_channels(host.transformer)
    if channels is None:
        raise UnknownTarget(
            f"The input of this {type(host.transformer).__name__} holds no channels of a reference image to change; "
            "Wan image-to-video and HunyuanVideo with latent_concat do."
        )
    module = host.transformer.get_submodule(channels.path)
    return [Installed(module, PaintedReference(modulation.amount, channels))]
