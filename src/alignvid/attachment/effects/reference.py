"""What acts on the reference image where it lies in channels of the transformer's input."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from alignvid.attachment.effect import Installed, SwitchedEffect, by_sample
from alignvid.errors import UnknownTarget
from alignvid.host.transformers import Host
from alignvid.models.family import ReferenceChannels


class OnReference(SwitchedEffect):
    """Makes other latents of the reference image, in some samples or in all."""

    is_neutral_in_graph = False

    def __init__(self, channels: ReferenceChannels) -> None:
        """`channels`: where they lie."""
        super().__init__()
        self.reference = self.channels = channels

    @abstractmethod
    def made_of(
        self, reference: Float[Tensor, "batch channel frame height width"]
    ) -> Float[Tensor, "batch channel frame height width"]:
        """What is to stand in their place."""

    def on_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The input with another reference."""
        latents, (_, start, stop) = args[0], self.channels
        made = self.made_of(latents[:, start:stop])
        changed, switch = torch.cat([latents[:, :start], made, latents[:, stop:]], 1), self.now.switch
        if switch.ndim > 0:  # a switch for all needs no choice
            changed = torch.where(by_sample(switch, latents) > 0, changed, latents)
        return (changed, *args[1:]), kwargs


def channels_of(host: Host, done: str, instead: str = "") -> ReferenceChannels:
    """Where a transformer's input holds the reference image.

    Args:
        host: the transformer.
        done: what would be done with them, such as "to low-pass", for the error.
        instead: a sentence with another way, for the error.

    Raises: UnknownTarget if it holds none.
    """
    channels = host.family.reference_channels(host.transformer)
    if channels is None:
        raise UnknownTarget(
            f"The input of this {type(host.transformer).__name__} holds no channels of a reference image {done}; "
            f"Wan image-to-video and HunyuanVideo with latent_concat do.{instead}"
        )
    return channels


def at_its_door(host: Host, effect: OnReference) -> list[Installed]:
    """An effect, on the module that the input goes into."""
    return [Installed(host.transformer.get_submodule(effect.channels.path), effect)]
