"""Energy-based gain: formulas, and the effects that measure queries and scale keys while the model runs.

The mean over all pairs of a query and a key is mean(q)·mean(k)/√d: linear in the tokens, no attention matrix. Queries
pass their norm before the keys do, so the mean query is noted there and met by the keys of the same attention.

Source: Attention Scaling Modulation of arXiv 2512.01334, energy-based.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial, reduce
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from alignvid.attachment.effect import Effect, Installed, State, SwitchedEffect, SwitchedState
from alignvid.attachment.effects.attention_call import AttendingState, AttentionEffect, call_effects
from alignvid.attachment.placement import Placement
from alignvid.attachment.refusals import refuse_reached
from alignvid.attachment.streams import split_by_stream
from alignvid.errors import AttachmentError, UnknownTarget
from alignvid.host.sites import NormLocation, head_count
from alignvid.host.transformers import Host
from alignvid.models.attention_call import AttentionCall
from alignvid.models.family import Family, KeyNorm
from alignvid.modulation.energy import Energy


def mean_energy(
    mean_query: Float[Tensor, "*batch size"], mean_key: Float[Tensor, "*batch size"]
) -> Float[Tensor, "*batch"]:
    """mean_ij q_i·k_j/√d, from the two means."""
    return (mean_query * mean_key).sum(-1) / math.sqrt(mean_query.shape[-1])


def energy_gain(energy: Float[Tensor, "*batch"], modulation: Energy) -> Float[Tensor, "*batch"]:
    """γ_e = low + (gamma − low) · sigmoid((centre − energy) / width): falls with the energy, from gamma to low."""
    diffuseness = torch.sigmoid((modulation.centre - energy) / modulation.width)
    return modulation.low + (modulation.gamma - modulation.low) * diffuseness


def mean_per_head(tokens: Float[Tensor, "batch ..."], sequence_dim: int, heads: int) -> Float[Tensor, "batch heads _"]:
    """Mean over the sequence, in float32; the heads may still lie side by side in the last axis."""
    return tokens.mean(sequence_dim, dtype=torch.float32).reshape(len(tokens), heads, -1)


def sum_and_count(
    tokens: Float[Tensor, "batch ..."], sequence_dim: int, attended: Shaped[Tensor, "batch token"] | None
) -> tuple[Float[Tensor, "batch ..."], Float[Tensor, "#batch 1"]]:
    """Sum over the sequence, in float32, and how many tokens it holds; padding counts as none."""
    if attended is None:
        return tokens.sum(sequence_dim, dtype=torch.float32), tokens.new_full(
            (1, 1), tokens.shape[sequence_dim]
        ).float()
    weights = attended.to(tokens.device, torch.float32)
    return torch.einsum("bt,bt...->b...", weights, tokens.movedim(sequence_dim, 1).float()), weights.sum(
        1, keepdim=True
    )


def scaled_per_head(
    tokens: Float[Tensor, "batch ..."], gain: Float[Tensor, "batch heads"], sequence_dim: int
) -> Float[Tensor, "batch ..."]:
    """Tokens multiplied by a number per sample and head."""
    if tokens.ndim == 3:  # (batch, tokens, heads * size)
        return scaled_per_head(tokens.unflatten(-1, (gain.shape[1], -1)), gain, sequence_dim).flatten(-2)
    return (tokens * gain.unsqueeze(sequence_dim).unsqueeze(-1)).to(tokens.dtype)


class TokenMean:
    """Takes the mean of the queries or keys of one kind of norm, without the padding that the host masks."""

    def __init__(self, keys: KeyNorm, heads: int, family: Family | None) -> None:
        """`keys`: streams and sequence axis of the norm; `family` knows of padding, None if there is none."""
        self.keys = keys
        self.heads = heads
        self.family = family

    def attended(self, transformer: nn.Module, arguments: Mapping[str, Any]) -> dict[str, Tensor]:
        """Which tokens of a forward are no padding, by stream of the norm."""
        if self.family is None:
            return {}
        attended = self.family.attended(transformer, arguments)
        return {stream: mask for stream, mask in attended.items() if stream in self.keys.streams}

    def of(
        self, tokens: Float[Tensor, "batch ..."], now: State, attended: Mapping[str, Tensor]
    ) -> Float[Tensor, "batch heads _"]:
        """The mean per sample and head."""
        if not attended:
            return mean_per_head(tokens, self.keys.sequence_dim, self.heads)
        parts = split_by_stream(tokens, self.keys.streams, self.keys.sequence_dim, now)
        sums = [
            sum_and_count(part, self.keys.sequence_dim, attended.get(stream))
            for stream, part in zip(self.keys.streams, parts, strict=True)
        ]
        total, count = (reduce(torch.add, numbers) for numbers in zip(*sums, strict=True))
        return (total.flatten(1) / count).unflatten(1, (self.heads, -1))


class QueryState(State):
    """The mean query of the attention that is running, and the padding of the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.attended: Mapping[str, Tensor] = {}
        self.mean: Tensor | None = None


class GainState(SwitchedState):
    """The padding of the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.attended: Mapping[str, Tensor] = {}


class QueryMean(Effect):
    """Notes the mean query of the attention that is running, for the whole batch, and leaves the queries alone."""

    state_type = QueryState
    reads_token_counts = True

    def __init__(self, take: TokenMean) -> None:
        super().__init__()
        self.take = take

    def prepare(self, transformer: nn.Module, arguments: Mapping[str, Any], noise_level: float) -> None:
        """Note the padding of this forward."""
        self.now.attended = self.take.attended(transformer, arguments)

    def on_output(self, output: Tensor) -> Tensor:
        """The queries, untouched."""
        now = self.now
        now.mean = self.take.of(output, now, now.attended)
        return output


class EnergyGain(SwitchedEffect):
    """Scales the keys of one kind of norm by their energy with the queries noted before."""

    state_type = GainState
    reads_token_counts = True

    def __init__(
        self,
        modulation: Energy,
        powers: Sequence[tuple[str, float]],
        take: TokenMean,
        queries: QueryMean,
        *,
        is_last: bool,
    ) -> None:
        """`is_last`: no other keys of the same attention need the mean query, so that a stale one cannot be met."""
        super().__init__()
        self.modulation = modulation
        self.powers = dict(powers)
        self.take = take
        self.streams = take.keys.streams
        self.sequence_dim = take.keys.sequence_dim
        self.queries = queries
        self.is_last = is_last
        self.is_uniform = len(self.powers) == len(self.streams) and len(set(self.powers.values())) == 1

    def prepare(self, transformer: nn.Module, arguments: Mapping[str, Any], noise_level: float) -> None:
        """Note the padding of this forward."""
        self.now.attended = self.take.attended(transformer, arguments)

    def on_output(self, output: Tensor) -> Tensor:
        """The keys, scaled."""
        now, noted = self.now, self.queries.now
        mean_query = noted.mean
        if mean_query is None:
            raise AttachmentError("Keys passed their norm before the queries did; an energy cannot be measured here.")
        if self.is_last:
            noted.mean = None
        mean_key = self.take.of(output, now, now.attended)
        return self._scaled(output, energy_gain(mean_energy(mean_query, mean_key), self.modulation))

    def _scaled(self, keys: Tensor, gain: Float[Tensor, "batch heads"]) -> Tensor:
        by_power = {power: gain ** (power * self.switch_like(gain)) for power in set(self.powers.values())}
        if self.is_uniform:
            return scaled_per_head(keys, next(iter(by_power.values())), self.sequence_dim)
        parts = split_by_stream(keys, self.streams, self.sequence_dim, self.now)
        scaled = [
            scaled_per_head(part, by_power[self.powers[stream]], self.sequence_dim) if stream in self.powers else part
            for stream, part in zip(self.streams, parts, strict=True)
        ]
        return torch.cat(scaled, self.sequence_dim)


class AttendedState(AttendingState):
    """The padding of the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.attended: Mapping[str, Tensor] = {}


class EnergyOfCall(AttentionEffect):
    """Scales keys at the attention call by their energy with its queries, all of them rotated."""

    state_type = AttendedState

    def __init__(self, modulation: Energy, family: Family, streams: Sequence[str], powers: Mapping[str, float]) -> None:
        """`streams`: of the keys, in the order of the softmax; `powers`: of those that are targets."""
        super().__init__(streams)
        self.modulation, self.family, self.powers = modulation, family, dict(powers)

    def prepare(self, transformer: nn.Module, arguments: Mapping[str, Any], noise_level: float) -> None:
        """Note the padding of this forward."""
        attended = self.family.attended(transformer, arguments)
        self.now.attended = {stream: mask for stream, mask in attended.items() if stream in self.streams}

    def on_call(self, asked: AttentionCall) -> AttentionCall:
        """The call with its keys scaled."""
        sizes, is_counted = self.sizes(asked), None
        if self.now.attended:
            is_counted = torch.cat(
                [
                    self.now.attended.get(stream, asked.key.new_ones(len(asked.key), size)).to(asked.key.device).float()
                    for stream, size in zip(self.streams, sizes, strict=True)
                ],
                1,
            )
        own_queries = is_counted if asked.query.shape[1] == asked.key.shape[1] else None
        means = [_mean_of(asked.query, own_queries), _mean_of(asked.key, is_counted)]
        repeats = asked.query.shape[2] // asked.key.shape[2]  # several heads of queries may share keys
        energy = (means[0].unflatten(1, (-1, repeats)) * means[1].unsqueeze(2)).sum(-1).mean(2) * asked.scale
        gain = energy_gain(energy, self.modulation)
        scaled = [
            scaled_per_head(part, gain ** (self.powers.get(stream, 0.0) * self.switch_like(gain)), 1)
            for stream, part in zip(self.streams, asked.key.split(sizes, 1), strict=True)
        ]
        return asked._replace(key=torch.cat(scaled, 1))


def _mean_of(
    tokens: Float[Tensor, "batch token heads size"], is_counted: Float[Tensor, "batch token"] | None
) -> Float[Tensor, "batch heads size"]:
    total, count = sum_and_count(tokens, 1, is_counted)
    return total / count.unsqueeze(-1)


def energy_effects(modulation: Energy, host: Host, placements: Sequence[Placement]) -> list[Installed]:
    """A query mean per kind of attention and an energy gain per kind of key norm, shared by all blocks; or, where the
    energy is that after rotation, an effect on the attention call.
    """
    if modulation.is_rotated:
        make = partial(EnergyOfCall, modulation, host.family)
        return call_effects(placements, modulation.kind, make)
    refuse_reached(modulation.kind, placements)
    means: dict[tuple[object, ...], QueryMean] = {}
    gains: dict[tuple[object, ...], EnergyGain] = {}
    installed = []
    for _, group in groupby(placements, key=lambda placement: id(placement.location.attention)):
        items = list(group)
        location = items[0].location
        query_norm, heads = _requirements(location)
        # Where text is padded, queries lie like the first keys: those of the video alone, or of all streams. Where the
        # first keys are of the text alone, queries are the video's, of which none is padding.
        first = location.attention_site.keys[0]
        taken = TokenMean(first, heads, host.family if len(first.streams) > 1 else None)
        mean = means.setdefault((location.site, heads), QueryMean(taken))
        installed.append(Installed(query_norm, mean, False))
        for item in items:
            is_last = item is items[-1]
            taken = TokenMean(item.location.keys, heads, host.family)
            kind = (item.location.site, item.location.keys, item.powers, is_last)
            gain = gains.setdefault(kind, EnergyGain(modulation, item.powers, taken, mean, is_last=is_last))
            installed.append(Installed(item.location.norm, gain, item is items[0]))
    return installed


def _requirements(location: NormLocation) -> tuple[nn.Module, int]:
    """The norm of the queries, and how many heads they have."""
    heads = head_count(location.attention)
    if location.queries is None or heads is None:
        raise UnknownTarget(
            f"The attention {location.site!r} has no query norm or does not say how many heads: its energy cannot be "
            "measured; use a scalar modulation there."
        )
    return location.queries, heads
