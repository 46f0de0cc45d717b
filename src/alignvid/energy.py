"""Energy-based gain: formulas, and the effects that measure queries and scale keys while the model runs.

The mean over all pairs of a query and a key is mean(q)·mean(k)/√d: linear in the tokens, no attention matrix. Queries
pass their norm before the keys do, so the mean query is noted there and met by the keys of the same attention.

Source: Attention Scaling Modulation of arXiv 2512.01334, energy-based.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor, nn

from alignvid.effects import Effect, Installed, SwitchedEffect
from alignvid.errors import AttachmentError, UnknownTarget
from alignvid.gains import split_by_stream
from alignvid.models.family import KeyNorm
from alignvid.modulation.energy import Energy
from alignvid.placement import NormLocation, Placement


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


def scaled_per_head(
    tokens: Float[Tensor, "batch ..."], gain: Float[Tensor, "batch heads"], sequence_dim: int
) -> Float[Tensor, "batch ..."]:
    """Tokens multiplied by a number per sample and head."""
    if tokens.ndim == 3:  # (batch, tokens, heads * size)
        return scaled_per_head(tokens.unflatten(-1, (gain.shape[1], -1)), gain, sequence_dim).flatten(-2)
    return (tokens * gain.unsqueeze(sequence_dim).unsqueeze(-1)).to(tokens.dtype)


class QueryMean(Effect):
    """Notes the mean query of the attention that is running, and leaves the queries as they are."""

    def __init__(self, sequence_dim: int, heads: int) -> None:
        super().__init__()
        self.sequence_dim = sequence_dim
        self.heads = heads
        self.mean: Tensor | None = None

    def on_output(self, output: Tensor) -> Tensor:
        """The queries, untouched."""
        self.mean = mean_per_head(output, self.sequence_dim, self.heads)
        return output


class EnergyGain(SwitchedEffect):
    """Scales the keys of one kind of norm by their energy with the queries noted before."""

    def __init__(
        self,
        modulation: Energy,
        powers: Sequence[tuple[str, float]],
        keys: KeyNorm,
        queries: QueryMean,
        token_counts: dict[str, int],
        *,
        is_last: bool,
    ) -> None:
        """`is_last`: no other keys of the same attention need the mean query, so that a stale one cannot be met."""
        super().__init__()
        self.modulation = modulation
        self.powers = dict(powers)
        self.streams = keys.streams
        self.sequence_dim = keys.sequence_dim
        self.queries = queries
        self.token_counts = token_counts
        self.is_last = is_last
        self.is_uniform = len(self.powers) == len(self.streams) and len(set(self.powers.values())) == 1
        self.reads_token_counts = not self.is_uniform

    def on_output(self, output: Tensor) -> Tensor:
        """The keys, scaled."""
        mean_query = self.queries.mean
        if mean_query is None:
            raise AttachmentError("Keys passed their norm before the queries did; an energy cannot be told here.")
        if self.is_last:
            self.queries.mean = None
        mean_key = mean_per_head(output, self.sequence_dim, self.queries.heads)
        return self._scaled(output, energy_gain(mean_energy(mean_query, mean_key), self.modulation))

    def _scaled(self, keys: Tensor, gain: Float[Tensor, "batch heads"]) -> Tensor:
        by_power = {power: gain ** (power * self.switch_like(gain)) for power in set(self.powers.values())}
        if self.is_uniform:
            return scaled_per_head(keys, next(iter(by_power.values())), self.sequence_dim)
        parts = split_by_stream(keys, self.streams, self.sequence_dim, self.token_counts)
        scaled = [
            scaled_per_head(part, by_power[self.powers[stream]], self.sequence_dim) if stream in self.powers else part
            for stream, part in zip(self.streams, parts, strict=True)
        ]
        return torch.cat(scaled, self.sequence_dim)


def energy_effects(
    modulation: Energy, placements: Sequence[Placement], token_counts: dict[str, int]
) -> list[Installed]:
    """A query mean per kind of attention and an energy gain per kind of key norm, shared by all blocks."""
    means: dict[tuple[object, ...], QueryMean] = {}
    gains: dict[tuple[object, ...], EnergyGain] = {}
    installed = []
    for _, group in groupby(placements, key=lambda placement: id(placement.location.attention)):
        items = list(group)
        query_norm, mean = _query_mean(items[0].location)
        mean = means.setdefault((items[0].location.site, mean.sequence_dim, mean.heads), mean)
        installed.append(Installed(query_norm, mean))
        for item in items:
            is_last = item is items[-1]
            gain = EnergyGain(modulation, item.powers, item.location.keys, mean, token_counts, is_last=is_last)
            kind = (item.location.site, item.location.keys, item.powers, is_last)
            installed.append(Installed(item.location.norm, gains.setdefault(kind, gain)))
    return installed


def _query_mean(location: NormLocation) -> tuple[nn.Module, QueryMean]:
    """The norm of the queries, and what notes their mean there."""
    heads = getattr(location.attention, "heads", None)
    if location.queries is None or not isinstance(heads, int):
        raise UnknownTarget(
            f"The attention {location.site!r} has no query norm or does not tell its heads: its energy cannot be "
            "measured; use a scalar modulation there."
        )
    return location.queries, QueryMean(location.keys.sequence_dim, heads)
