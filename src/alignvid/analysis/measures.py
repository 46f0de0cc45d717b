"""What one softmax attention does, as numbers per query: entropy, mass, energy, variance, and the entropy's slope in γ.

Exact, without an attention matrix (tiles.py). With logits z_j = q·k_j/√d, p = softmax(z) and LSE = log Σ exp z_j:

    entropy          H = LSE − E_p[z], in nats: 0 if one key has it all, ln n if n keys share it evenly
    mass             of a stream = Σ p_j over its keys = exp(LSE of the stream − LSE)
    energy           mean of z over the keys that the query may look at; over all queries (mean q)·(mean k)/√d
    variance         Var_p[z]
    slope            dH/dγ = −γ·Var of the logits before the gain γ; at the logits as they are (γ = 1) −Var_p[z]

Source: arXiv 2512.01334 (attention as energy). That H = LSE − E_p[z] follows from log p_j = z_j − LSE.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from alignvid.analysis.tiles import Tile, exactly, tiles

_MASS = 7  # column of the first stream's mass


class AttentionMeasures(NamedTuple):
    """What attention does, per query. NaN where a query may look at no key."""

    values: Float[Tensor, "*place measure"]
    """All measures side by side, in the order of the properties below; the place is (batch, head, query)."""

    @property
    def entropy(self) -> Float[Tensor, "*place"]:
        """In nats."""
        return self.values[..., 0]

    @property
    def variance(self) -> Float[Tensor, "*place"]:
        """Of the logits, under the attention weights."""
        return self.values[..., 1]

    @property
    def slope(self) -> Float[Tensor, "*place"]:
        """dH/dγ at γ = 1 for a gain on every key. Where a mask adds finite biases, −Cov_p(q·k/√d, logit)."""
        return self.values[..., 2]

    @property
    def energy(self) -> Float[Tensor, "*place"]:
        """Mean of q·k/√d over the keys that the query may look at."""
        return self.values[..., 3]

    @property
    def log_sum_exp(self) -> Float[Tensor, "*place"]:
        """Of the logits; weighs this softmax against another one of the same query."""
        return self.values[..., 4]

    @property
    def key_count(self) -> Float[Tensor, "*place"]:
        """Keys that the query may look at."""
        return self.values[..., 5]

    @property
    def normalised_entropy(self) -> Float[Tensor, "*place"]:
        """Entropy as a share of the largest possible one; see the function of that name."""
        return self.values[..., 6]

    @property
    def mass(self) -> Float[Tensor, "*place stream"]:
        """Share of the attention that goes to each stream."""
        return self.values[..., _MASS:]


@exactly
def attention_measures(
    query: Float[Tensor, "batch head query size"],
    key: Float[Tensor, "batch key_head key size"],
    *,
    stream_lengths: Sequence[int],
    mask: Tensor | None = None,
    scale: float | None = None,
) -> AttentionMeasures:
    """Measure one attention, in time proportional to queries x keys and in memory proportional to queries + keys.

    Args:
        query: as the attention sees it, after norm and rotary embedding.
        key: likewise; there may be fewer heads than in the query.
        stream_lengths: keys of each stream, in order; they add up to all keys.
        mask: boolean (True: may look) or a bias, as `scaled_dot_product_attention` takes it.
        scale: factor on q·k; 1/√size if None.
    """
    batch, heads, queries, _ = query.shape
    measured = query.new_empty((batch * heads, queries, _MASS + len(stream_lengths)), dtype=torch.float32)
    for tile in tiles(query, key, mask, scale):
        measured[tile.place] = _measures_of(tile, list(stream_lengths))
    return AttentionMeasures(measured.unflatten(0, (batch, heads)))


def normalised_entropy(entropy: Float[Tensor, "*rest"], key_count: Float[Tensor, "*rest"]) -> Float[Tensor, "*rest"]:
    """Entropy as a share of the largest possible one, ln(number of keys): 0 to 1, comparable between sites.

    A single key leaves nothing to spread over: 0.
    """
    return entropy / key_count.clamp(min=2.0).log()


def entropy_slope(variance: Float[Tensor, "*rest"], gamma: float) -> Float[Tensor, "*rest"]:
    """dH/dγ = −γ·Var, where the variance is that of the logits before the gain, under the weights with it.

    Source: section 3 of arXiv 2512.01334 (entropy falls monotonically in γ).
    """
    return -gamma * variance


def mean_energy(
    query: Float[Tensor, "batch head query size"], key: Float[Tensor, "batch head key size"]
) -> Float[Tensor, "batch head"]:
    """Mean of q·k/√d over all pairs, from the means: linear in the tokens.

    Source: the energy-based modulation of arXiv 2512.01334, of which this is the quantity.
    """
    return (query.float().mean(2) * key.float().mean(2)).sum(-1) * query.shape[-1] ** -0.5


def pooled_mass(log_sum_exps: Float[Tensor, "softmax batch head query"]) -> Float[Tensor, "softmax batch head query"]:
    """Share that each of several separate softmaxes of one query would have if they were a single one.

    Wan attends to text and to image separately and adds the results, so that the mass within each is always 1. This
    compares them: exp(LSE of one − LSE of all).
    """
    return log_sum_exps.softmax(0)


def _measures_of(tile: Tile, stream_lengths: list[int]) -> Float[Tensor, "head row measure"]:
    logits = tile.energy if tile.bias is None else tile.energy + tile.bias
    weights = torch.softmax(logits, -1, out=tile.spare)
    log_sum_exp = logits.amax(-1) - weights.amax(-1).log()  # the largest weight is exp(largest logit − LSE)
    mass = [part.sum(-1) for part in weights.split(stream_lengths, -1)]
    mean_energy, key_count = _energy_of(tile)
    if tile.bias is not None:
        logits.masked_fill_(tile.bias.isneginf(), 0.0)  # there the weight is 0, and 0 x inf would be NaN
    mean = torch.linalg.vecdot(weights, logits)
    if (
        tile.bias is not None
    ):  # one number off all energies leaves the slope as it is, and its digits, if they are large
        tile.energy.sub_(torch.linalg.vecdot(weights, tile.energy).unsqueeze(-1))
    deviation = logits.sub_(mean.unsqueeze(-1))  # without a mask this overwrites the energy, which has served
    weighted = weights.mul_(deviation)
    variance = torch.linalg.vecdot(weighted, deviation)
    slope = -variance if tile.bias is None else -torch.linalg.vecdot(weighted, tile.energy)
    entropy = (log_sum_exp - mean).clamp_(min=0.0)  # rounding can put the entropy of a single key below 0
    share = normalised_entropy(entropy, key_count)
    return torch.stack([entropy, variance, slope, mean_energy, log_sum_exp, key_count, share, *mass], -1)


def _energy_of(tile: Tile) -> tuple[Float[Tensor, "head row"], Float[Tensor, "head row"]]:
    """Mean energy over the keys that may be looked at, and their number."""
    if tile.bias is None:
        mean = tile.energy.mean(-1)
        return mean, torch.full_like(mean, tile.energy.shape[-1])
    is_hidden = tile.bias.isneginf()
    key_count = (~is_hidden).sum(-1).float()
    return tile.energy.masked_fill(is_hidden, 0.0).sum(-1) / key_count, key_count
