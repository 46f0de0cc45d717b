"""The effect of a reference weight: keys and values of some streams multiplied, at the attention call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from alignvid.attachment.effect import Installed
from alignvid.attachment.effects.attention_call import AttentionEffect, call_effects
from alignvid.attachment.placement import Placement
from alignvid.host.transformers import Host
from alignvid.models.attention_call import AttentionCall
from alignvid.modulation.ref_kv import RefKV


class Weighted(AttentionEffect):
    """Multiplies keys and values of one softmax by a number for each stream."""

    def __init__(self, weights: Mapping[str, float], streams: Sequence[str]) -> None:
        """`weights`: by stream; the others keep theirs. `streams`: of the keys, in the order of the softmax."""
        super().__init__(streams)
        self.weights = dict(weights)

    def on_call(self, asked: AttentionCall) -> AttentionCall:
        """The call with other keys and values."""
        sizes = self.sizes(asked)
        return asked._replace(key=self._weighted(asked.key, sizes), value=self._weighted(asked.value, sizes))

    def _weighted(self, tokens: Tensor, sizes: list[int]) -> Tensor:
        on = self.switch_like(tokens)
        parts = [
            (part * (1.0 + on * (self.weights[stream] - 1.0))).to(part.dtype) if stream in self.weights else part
            for stream, part in zip(self.streams, tokens.split(sizes, 1), strict=True)
        ]
        return torch.cat(parts, 1)


def ref_kv_effects(modulation: RefKV, host: Host, placements: Sequence[Placement]) -> list[Installed]:
    """One effect for all attentions of a kind.

    Raises: UnknownTarget if an attention cannot be acted on at its call.
    """

    def make(streams: tuple[str, ...], powers: dict[str, float]) -> Weighted:
        return Weighted({stream: weight for stream, weight in modulation.weights.items() if stream in powers}, streams)

    return call_effects(placements, modulation.kind, make)
