"""The effects of the pilot-study variants: keys blurred over their grid, and the reference low-passed at the door.

Source: the pilot study of arXiv 2512.01334; formulas in `alignvid.attachment.effects.gaussian`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from alignvid.attachment.effect import Installed, SwitchedEffect, SwitchedState, by_sample
from alignvid.attachment.effects.gaussian import blurred_pictures, blurred_tokens, gaussian_weights, reach
from alignvid.attachment.effects.reference import OnReference, at_its_door, channels_of
from alignvid.attachment.placement import Placement, with_firsts
from alignvid.attachment.streams import split_by_stream
from alignvid.errors import UnknownTarget
from alignvid.host.transformers import Host
from alignvid.models.family import Family, Grid, KeyNorm, ReferenceChannels
from alignvid.modulation.pilot import KeyBlur, LowPass


class Grids(SwitchedState):
    """The grids of the forward, by stream."""

    def __init__(self) -> None:
        super().__init__()
        self.grids: dict[str, Grid] = {}


class BlurWeights(SwitchedState):
    """The weights of the blur at this noise level."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: Tensor | None = None


class BlurredKeys(SwitchedEffect):
    """Blurs the keys of some streams of one kind of norm."""

    state_type = Grids
    is_neutral_in_graph = False

    def __init__(self, sigma: float, targets: Mapping[str, str], keys: KeyNorm, family: Family) -> None:
        """Args:
        sigma: standard deviation in tokens.
        targets: name of the target by stream, for the streams to blur.
        keys: the kind of norm.
        family: knows the grids.
        """
        super().__init__()
        self.weights = gaussian_weights(sigma, reach(sigma))
        self.targets = dict(targets)
        self.keys = keys
        self.family = family
        self.reads_token_counts = len(keys.streams) > 1

    def prepare(self, transformer: nn.Module, arguments: Mapping[str, Any], noise_level: float) -> None:
        """Note the grids of this forward."""
        self.now.grids = {
            stream: self.family.grids[target](transformer, arguments) for stream, target in self.targets.items()
        }

    def on_output(self, output: Tensor) -> Tensor:
        """The keys, those of the chosen streams blurred."""
        now, sequence_dim = self.now, self.keys.sequence_dim
        parts = split_by_stream(output, self.keys.streams, sequence_dim, now)
        pairs = zip(self.keys.streams, parts, strict=True)
        done = [self._blurred(part, now.grids[stream]) if stream in now.grids else part for stream, part in pairs]
        changed, switch = torch.cat(done, sequence_dim), now.switch
        return changed if switch.ndim == 0 else torch.where(by_sample(switch, output) > 0, changed, output)

    def _blurred(self, keys: Tensor, grid: Grid) -> Tensor:
        by_token = keys.movedim(self.keys.sequence_dim, 1)
        flat = blurred_tokens(by_token.flatten(2), grid, self.weights)
        return flat.view(by_token.shape).movedim(1, self.keys.sequence_dim)


class LowPassedReference(OnReference):
    """Low-passes the reference's channels of the input, with a standard deviation that falls with the noise level."""

    state_type = BlurWeights

    def __init__(self, sigma: float, channels: ReferenceChannels) -> None:
        super().__init__(channels)
        self.sigma = sigma

    def prepare(self, transformer: nn.Module, arguments: Mapping[str, Any], noise_level: float) -> None:
        """Set the standard deviation of this step; the number of weights stays, so compiled code does too."""
        self.now.weights = gaussian_weights(self.sigma * noise_level, reach(self.sigma))

    def made_of(self, reference: Tensor) -> Tensor:
        """The reference, low-passed frame by frame."""
        frames = reference.transpose(1, 2)
        return blurred_pictures(frames.flatten(0, 1), self.now.weights).view(frames.shape).transpose(1, 2)


def key_blur_effects(modulation: KeyBlur, host: Host, placements: Sequence[Placement]) -> list[Installed]:
    """One blur per kind of norm, shared by all blocks.

    Raises: UnknownTarget if a stream does not lie on a grid.
    """
    shared: dict[tuple[object, ...], BlurredKeys] = {}
    installed = []
    for placement, is_first in with_firsts(placements):
        site, keys = placement.location.site, placement.location.keys
        targets = {stream: f"{site}.{stream}" for stream, _ in placement.powers}
        _refuse_without_grid(targets.values(), host.family)
        kind = (site, keys, placement.powers)
        if kind not in shared:
            shared[kind] = BlurredKeys(modulation.sigma, targets, keys, host.family)
        installed.append(Installed(placement.location.norm, shared[kind], is_first))
    return installed


def low_pass_effects(modulation: LowPass, host: Host, placements: Sequence[Placement]) -> list[Installed]:
    """One low-pass at the door of a transformer.

    Raises: UnknownTarget if its input does not hold a reference image.
    """
    channels = channels_of(host, "to low-pass", " Blur the image itself instead.")
    return at_its_door(host, LowPassedReference(modulation.sigma, channels))


def _refuse_without_grid(targets: Any, family: Family) -> None:
    for target in targets:
        if target not in family.grids:
            raise UnknownTarget(
                f"The tokens of {target!r} lie on no grid that a blur could run over; choose from "
                f"{', '.join(sorted(family.grids)) or 'nothing: this family describes none'}."
            )
