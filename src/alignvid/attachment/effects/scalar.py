"""The gain on the output of a key norm.

Rotary embedding is linear, so a gain after the norm equals a gain after the embedding, and any attention backend,
quantisation or LoRA comes before or after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from weakref import ref

import torch
from jaxtyping import Float
from torch import Tensor, nn

from alignvid.attachment.effect import Effect, Installed, State, by_sample, scalar
from alignvid.attachment.placement import Placement
from alignvid.attachment.streams import split_by_stream
from alignvid.host.registry import runner_of
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
        state: Any = self.state_type()
        state.factors = self._neutral
        return state

    def set_active(self, is_active: bool) -> None:
        """Switch all factors on or off. Compiled code multiplies by one when off; eager code skips the operation."""
        now = self.now
        now.is_active = is_active
        now.factors = self._in_force(now) if is_active else self._neutral

    def set_active_samples(self, is_active: Sequence[bool]) -> None:
        """Switch the factors on for some samples of a batch only (batched classifier-free guidance)."""
        now, mask = self.now, torch.tensor(is_active)
        now.is_active = any(is_active)
        values = self._in_force(now)
        now.factors = tuple(None if value is None else torch.where(mask, value, _NEUTRAL) for value in values)

    def _in_force(self, now: Any) -> tuple[Tensor | None, ...]:
        """The factors of this forward, where it is on."""
        return self._values

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


class SharedFactors(Factors):
    """A state that knows what the gain is shared with."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = "unknown"
        """The pass of guidance."""
        self.guidance: float | None = None
        """By how much guidance multiplies in this forward; None if that is not known."""


class SharedGain(KeyGain):
    """Factors of which guidance of scale s leaves the s-th root: it multiplies what they change in one of its passes.
    Where the scale is not known they are as without guidance.
    """

    state_type = SharedFactors
    reads_branch = True
    reads_guidance = True

    def __init__(self, factors: Sequence[float | None], *streams_and_dim: Any, **more: Any) -> None:
        """As the gain that it makes a shared one."""
        super().__init__(factors, *streams_and_dim, **more)
        self.host = ""
        """Attribute of the pipeline that holds the transformer."""
        self._gains = tuple(factors)
        self._ask: Callable[[], float | None] = lambda: None
        self._roots: dict[float, tuple[Tensor | None, ...]] = {}

    def learn(self, pipeline: Any) -> None:
        """Remember whom to ask for the scale of guidance."""
        if pipeline is not None:
            self._ask = partial(_strength_of, ref(pipeline), self.host)

    def prepare(self, transformer: nn.Module, arguments: Mapping[str, Any], noise_level: float) -> None:
        """Note the scale of guidance of the running step."""
        self.now.guidance = self._ask()

    def _in_force(self, now: SharedFactors) -> tuple[Tensor | None, ...]:
        scale = now.guidance
        if scale is None or scale <= 1.0:
            return self._values
        if scale not in self._roots:
            self._roots[scale] = tuple(None if gain is None else scalar(gain ** (1 / scale)) for gain in self._gains)
        return self._roots[scale]


class SharedReachedGain(SharedGain, ReachedKeyGain):
    """As `SharedGain`, where no norm's output holds the keys."""


def _strength_of(pipeline: Callable[[], Any], host: str) -> float | None:
    model = pipeline()
    return None if model is None else runner_of(model).guidance_strength(model, host)


def scalar_effects(placements: Sequence[tuple[Placement, bool]], shared_in: str = "") -> list[Installed]:
    """One gain per kind of norm, shared by all blocks, so that a switch costs the same for 3 blocks as for 40.

    Args:
        placements: with whether each stands for its attention in counts.
        shared_in: attribute of the pipeline that holds the transformer whose gains are shared with guidance; empty for
            gains that are not.
    """
    shared: dict[tuple[object, ...], KeyGain] = {}
    installed = []
    for placement, is_first in placements:
        kind = (placement.location.site, placement.location.keys, placement.gains)
        if kind not in shared:
            shared[kind] = _key_gain(placement, shared_in)
        installed.append(Installed(placement.location.norm, shared[kind], is_first))
    return installed


def _key_gain(placement: Placement, shared_in: str) -> KeyGain:
    keys, gains = placement.location.keys, dict(placement.gains)
    is_whole = placement.is_uniform
    factors = [placement.gains[0][1]] if is_whole else [gains.get(stream) for stream in keys.streams]
    here = (factors, keys.streams[:1] if is_whole else keys.streams, keys.sequence_dim)
    reach = {} if keys.reach is None else {"reach": keys.reach}
    if not shared_in:
        return ReachedKeyGain(*here, **reach) if reach else KeyGain(*here)
    shared = SharedReachedGain(*here, **reach) if reach else SharedGain(*here)
    shared.host = shared_in
    return shared


def _broadcast(factor: Tensor, keys: Tensor) -> Tensor:
    return factor if factor.ndim == 0 else by_sample(factor, keys)
