"""The effect of down-up: the reference's channels of the transformer's input low-passed by scaling.

Source: the filter of ALG, arXiv 2506.08456: bilinear, antialiased, corners not aligned, per latent frame of the whole
condition, the mask's channels left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from alignvid.attachment.effect import Installed, SwitchedEffect, by_sample
from alignvid.attachment.placement import Placement
from alignvid.errors import UnknownTarget
from alignvid.host.transformers import Host
from alignvid.models.family import ReferenceChannels
from alignvid.modulation.down_up import DownUp


def down_up(
    pictures: Float[Tensor, "batch channel height width"], ratio: float
) -> Float[Tensor, "batch channel height width"]:
    """Pictures scaled by a ratio, to a side of one pixel at least, and back; a ratio of 1 gives them as they are."""
    if ratio == 1.0:
        return pictures
    height, width = pictures.shape[-2:]
    small = max(1, int(height * ratio)), max(1, int(width * ratio))
    settings: dict[str, Any] = {"mode": "bilinear", "align_corners": False, "antialias": True}
    down = functional.interpolate(pictures.float(), small, **settings)
    return functional.interpolate(down, (height, width), **settings).to(pictures.dtype)


class DownUpReference(SwitchedEffect):
    """Low-passes the reference's channels of the input, frame by frame."""

    is_neutral_in_graph = False

    def __init__(self, ratio: float, channels: ReferenceChannels) -> None:
        super().__init__()
        self.ratio, self.channels = ratio, channels

    def on_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The input with its reference low-passed."""
        latents, (_, start, stop) = args[0], self.channels  # (batch, channel, frame, height, width)
        frames = latents[:, start:stop].transpose(1, 2)
        passed = down_up(frames.flatten(0, 1), self.ratio).view(frames.shape).transpose(1, 2)
        changed, switch = torch.cat([latents[:, :start], passed, latents[:, stop:]], 1), self.now.switch
        if switch.ndim > 0:
            changed = torch.where(by_sample(switch, latents) > 0, changed, latents)
        return (changed, *args[1:]), kwargs


def down_up_effects(modulation: DownUp, host: Host, placements: Sequence[Placement]) -> list[Installed]:
    """One low-pass at the door of a transformer.

    Raises: UnknownTarget if its input does not hold a reference image.
    """
    channels = host.family.reference_channels(host.transformer)
    if channels is None:
        raise UnknownTarget(
            f"The input of this {type(host.transformer).__name__} holds no channels of a reference image to low-pass; "
            "Wan image-to-video and HunyuanVideo with latent_concat do."
        )
    module = host.transformer.get_submodule(channels.path)
    return [Installed(module, DownUpReference(modulation.ratio, channels))]
