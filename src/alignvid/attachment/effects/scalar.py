"""The gain on the output of a key norm.

Rotary embedding is linear, so a gain after the norm equals a gain after the embedding, and any attention backend,
quantisation or LoRA comes before or after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from alignvid.attachment.effect import Effect, Installed, State, by_sample, scalar
from alignvid.attachment.placement import Placement
from alignvid.attachment.streams import split_by_stream
from alignvid.models.family import Reach

_NEUTRAL = 1.0


class Factors(State):
    """A state with the factor of each stream."""

    def __init__(self) -> None:
        super().__init__()
        self.factors: tuple[Tensor | None, ...] = ()
        """0-dim, or one number per sample; None leaves the stream alone."""


class KeyGain(Effect):
    """The factors on the keys of one kind of norm, switched on and off for all blocks at once."""

    state_type = Factors

    def __init__(self, factors: Sequence[float | None], streams: Sequence[str], sequence_dim: int) -> None:
        """One factor for all keys, or one per stream in token order (None leaves the stream alone).

        Args:
            factors: a single factor, or as many as there are streams.
            streams: names of the streams in their order on the sequence axis.
            sequence_dim: sequence axis of the norm's output.
        """
        self._values = tuple(None if factor is None else scalar(factor) for factor in factors)
        self._neutral = tuple(None if factor is None else scalar(_NEUTRAL) for factor in factors)
        super().__init__()
        self.streams = tuple(streams)
        self.sequence_dim = sequence_dim
        self.reads_token_counts = len(self.streams) > 1

    def idle(self) -> Factors:
        """All factors are one."""
        state = Factors()
        state.factors = self._neutral
        return state

    def set_active(self, is_active: bool) -> None:
        """Switch all factors on or off. Compiled code multiplies by one when off; eager code skips the operation."""
        now = self.now
        now.is_active = is_active
        now.factors = self._values if is_active else self._neutral

    def set_active_samples(self, is_active: Sequence[bool]) -> None:
        """Switch the factors on for some samples of a batch only (batched classifier-free guidance)."""
        now, mask = self.now, torch.tensor(is_active)
        now.is_active = any(is_active)
        now.factors = tuple(None if value is None else torch.where(mask, value, _NEUTRAL) for value in self._values)

    def on_output(self, output: Tensor) -> Tensor:
        """The keys, scaled."""
        return self.scaled(output)

    def on_fresh_output(self, output: Tensor) -> Tensor:
        """The keys, scaled in place: the streams that are left alone, video above all, are neither read nor copied."""
        if output.requires_grad:  # autograd allows no writing to one of several views
            return self.scaled(output)
        now = self.now
        for part, factor in zip(self._parts(output, now), now.factors, strict=True):
            if factor is not None:
                part.mul_(_broadcast(factor, part))
        return output

    def scaled(self, keys: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """The keys, multiplied by their factors; a new tensor."""
        now = self.now
        parts = [
            part if factor is None else (part * _broadcast(factor, part)).to(part.dtype)
            for part, factor in zip(self._parts(keys, now), now.factors, strict=True)
        ]
        return torch.cat(parts, self.sequence_dim) if self.reads_token_counts else parts[0]

    def _parts(self, keys: Tensor, now: Factors) -> tuple[Tensor, ...]:
        """The keys that have a factor of their own, as views."""
        if not self.reads_token_counts:
            return (keys,)
        return split_by_stream(keys, self.streams, self.sequence_dim, now)


class ReachedKeyGain(KeyGain):
    """The factors where no norm's output holds the keys: the attention is given arguments that scale them."""

    def __init__(
        self, factors: Sequence[float | None], streams: Sequence[str], sequence_dim: int, *, reach: Reach
    ) -> None:
        """`reach`: see `KeyNorm.reach`."""
        super().__init__(factors, streams, sequence_dim)
        self._reach = reach

    def on_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The arguments with which the keys are scaled."""
        return self._reach(args, kwargs, self.scaled)

    def on_output(self, output: Any) -> Any:
        """What the attention gives is no keys."""
        return output

    def on_fresh_output(self, output: Any) -> Any:
        """As `on_output`."""
        return output


def scalar_effects(placements: Sequence[tuple[Placement, bool]]) -> list[Installed]:
    """One gain per kind of norm, shared by all blocks, so that a switch costs the same for 3 blocks as for 40.

    Args:
        placements: with whether each stands for its attention in counts.
    """
    shared: dict[tuple[object, ...], KeyGain] = {}
    installed = []
    for placement, is_first in placements:
        kind = (placement.location.site, placement.location.keys, placement.gains)
        if kind not in shared:
            shared[kind] = _key_gain(placement)
        installed.append(Installed(placement.location.norm, shared[kind], is_first))
    return installed


def _key_gain(placement: Placement) -> KeyGain:
    keys, gains = placement.location.keys, dict(placement.gains)
    kind = KeyGain if keys.reach is None else partial(ReachedKeyGain, reach=keys.reach)
    if placement.is_uniform:
        return kind([placement.gains[0][1]], keys.streams[:1], keys.sequence_dim)
    return kind([gains.get(stream) for stream in keys.streams], keys.streams, keys.sequence_dim)


def _broadcast(factor: Tensor, keys: Tensor) -> Tensor:
    return factor if factor.ndim == 0 else by_sample(factor, keys)
