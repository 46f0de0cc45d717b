"""The effect of GRAG and DCAG: keys and values of the source image spread around their mean, at the attention call.

    K' = λ·k̄ + δ_k·(K − k̄);   V' = v̄ + δ_v·(V − v̄)      with the means over the tokens of a stream, per head

Sources: arXiv 2510.24657 and arXiv 2602.18022; after rotary embedding, in all blocks and steps.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from alignvid.attachment.effect import Installed
from alignvid.attachment.effects.attention_call import AttentionEffect, call_effects
from alignvid.attachment.placement import Placement
from alignvid.host.transformers import Host
from alignvid.models.attention_call import AttentionCall
from alignvid.modulation.grag import Dcag


def spread(
    tokens: Float[Tensor, "batch token heads size"],
    mean_factor: Float[Tensor, ...] | float,
    spread_factor: Float[Tensor, ...] | float,
) -> Float[Tensor, "batch token heads size"]:
    """λ·x̄ + δ·(x − x̄), written δ·x + (λ − δ)·x̄, which is x itself, bit by bit, where both factors are 1."""
    mean = tokens.mean(1, keepdim=True, dtype=torch.float32)
    return (spread_factor * tokens + (mean_factor - spread_factor) * mean).to(tokens.dtype)


class Spread(AttentionEffect):
    """Spreads keys and values of some streams of one softmax."""

    def __init__(self, modulation: Dcag, streams: Sequence[str], chosen: Collection[str]) -> None:
        """`streams`: of the keys, in the order of the softmax; `chosen`: those to act on."""
        super().__init__(streams)
        self.modulation, self.chosen = modulation, frozenset(chosen)

    def on_call(self, asked: AttentionCall) -> AttentionCall:
        """The call with other keys and values."""
        sizes, settings = self.sizes(asked), self.modulation
        keys = self._spread(asked.key, sizes, settings.mean, settings.key_spread)
        if settings.value_spread == 1.0:
            return asked._replace(key=keys)
        return asked._replace(key=keys, value=self._spread(asked.value, sizes, 1.0, settings.value_spread))

    def _spread(self, tokens: Tensor, sizes: list[int], mean: float, factor: float) -> Tensor:
        on = self.switch_like(tokens)
        parts = [
            spread(part, 1.0 + on * (mean - 1.0), 1.0 + on * (factor - 1.0)) if stream in self.chosen else part
            for stream, part in zip(self.streams, tokens.split(sizes, 1), strict=True)
        ]
        return torch.cat(parts, 1)


def spread_effects(modulation: Dcag, host: Host, placements: Sequence[Placement]) -> list[Installed]:
    """One effect for all attentions of a kind.

    Raises: UnknownTarget if an attention cannot be acted on at its call.
    """
    return call_effects(placements, modulation.kind, lambda streams, powers: Spread(modulation, streams, powers))
