"""The effect of down-up: the reference's channels of the transformer's input low-passed by scaling.

Source: the filter of ALG, arXiv 2506.08456: bilinear, antialiased, corners not aligned, per latent frame of the whole
condition, the mask's channels left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from alignvid.attachment.effect import Installed
from alignvid.attachment.effects.reference import OnReference, at_its_door, channels_of
from alignvid.attachment.placement import Placement
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


class DownUpReference(OnReference):
    """Low-passes the reference's channels of the input, frame by frame."""

    def __init__(self, ratio: float, channels: ReferenceChannels) -> None:
        super().__init__(channels)
        self.ratio = ratio

    def made_of(self, reference: Tensor) -> Tensor:
        """The reference, low-passed."""
        frames = reference.transpose(1, 2)
        return down_up(frames.flatten(0, 1), self.ratio).view(frames.shape).transpose(1, 2)


def down_up_effects(modulation: DownUp, host: Host, placements: Sequence[Placement]) -> list[Installed]:
    """One low-pass at the door of a transformer.

    Raises: UnknownTarget if its input does not hold a reference image.
    """
    return at_its_door(host, DownUpReference(modulation.ratio, channels_of(host, "to low-pass")))
