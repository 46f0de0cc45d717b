"""The effect of DyMoS: a log-bias on the first latent frame alone, through the attention mask as every log-bias.

Where the reference is a latent frame of its own (Wan TI2V-5B, HunyuanVideo with token replacement) that is the stream
`image`; where it lies in the channels (Wan 2.1 and 2.2 A14B) it is the first height · width tokens of `video`.

Source: arXiv 2605.19398.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from alignvid.attachment.effect import Installed
from alignvid.attachment.effects.attention_call import AttendingState
from alignvid.attachment.effects.log_bias import MaskBias
from alignvid.attachment.placement import Placement
from alignvid.attachment.streams import stream_sizes
from alignvid.errors import UnknownTarget
from alignvid.host.sites import NormLocation
from alignvid.host.transformers import Host
from alignvid.models.attention_call import CallReach
from alignvid.models.family import Family
from alignvid.modulation.dymos import DyMoS


class FrameSize(AttendingState):
    """Tokens of a latent frame in this forward."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = 0


class FirstFrameBias(MaskBias):
    """Biases the first latent frame of one kind of attention."""

    state_type = FrameSize

    def __init__(
        self, penalty: float, streams: Sequence[str], call: CallReach | None, target: str, family: Family
    ) -> None:
        """Args:
        penalty: what is taken from its logits.
        streams: all streams of the softmax in token order.
        call: see `Site.call`.
        target: whose tokens begin with the frame, as `site.stream`.
        family: knows its grid.
        """
        self.first = target.partition(".")[2]
        super().__init__({self.first: -penalty}, streams, call)
        self.target, self.family = target, family

    def prepare(self, transformer: nn.Module, arguments: Mapping[str, Any], noise_level: float) -> None:
        """Note the size of a latent frame."""
        grid = self.family.grids[self.target](transformer, arguments)
        self.now.tokens = grid.height * grid.width

    def _bias(self, like: Tensor, total: int) -> Tensor:
        parts, now = [], self.now
        for stream, size, bias in zip(self.streams, stream_sizes(total, self.streams, now), self.biases, strict=True):
            first = min(now.tokens, size) if stream == self.first else size
            parts += [like.new_full((1, 1, 1, first), bias), like.new_zeros((1, 1, 1, size - first))]
        bias = torch.cat(parts, -1)
        return (bias * self.switch_like(bias)).to(like.dtype)


def dymos_effects(modulation: DyMoS, host: Host, placements: Sequence[Placement]) -> list[Installed]:
    """One bias per kind of attention, shared by all blocks.

    Raises: UnknownTarget if the model is given no first frame, or a constant cannot be put on its logits.
    """
    shared: dict[tuple[object, ...], FirstFrameBias] = {}
    by_attention = {id(item.location.attention): item.location for item in placements}
    installed = []
    for location in by_attention.values():
        streams, target = _streams(location), _first_frame(location, host)
        key = (streams, target)
        if key not in shared:
            call = location.attention_site.call
            shared[key] = FirstFrameBias(modulation.penalty, streams, call, target, host.family)
        installed.append(Installed(location.attention, shared[key]))
    return installed


def _streams(location: NormLocation) -> tuple[str, ...]:
    site = location.attention_site
    if site.ignores_mask and site.call is None:
        raise UnknownTarget(
            f"The attention {site.name!r} of this model takes no attention mask of ours, so that no constant can be "
            "put on the logits of a frame."
        )
    norms = site.keys if site.is_joint else (location.keys,)
    return site.joint_order or tuple(stream for keys in norms for stream in keys.streams)


def _first_frame(location: NormLocation, host: Host) -> str:
    """The target whose tokens begin with the first latent frame, where that is the reference."""
    grids, streams = host.family.grids, _streams(location)
    video, image = f"{location.site}.video", f"{location.site}.image"
    has_frame = "image" in streams and image in grids and grids[image] is grids.get(video)
    is_given = has_frame or host.family.reference_channels(host.transformer) is not None
    if not is_given or video not in grids or "history" in streams:
        raise UnknownTarget(
            f"{type(host.transformer).__name__} is given no picture as its first latent frame, or it is not known "
            f"which tokens of {video!r} are that frame: DyMoS is for image-to-video such as Wan's and HunyuanVideo's."
        )
    return image if has_frame else video
