"""What presets recognise a model by, besides its blocks."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn


class Sizes(NamedTuple):
    """Sizes that distinguish models of one family; see `alignvid.presets.fingerprint`."""

    heads: int | None = None
    """Attention heads; None if that cannot be read."""
    width: int | None = None
    """Features of a token; None if that cannot be read."""
    image_keys: tuple[int, ...] = ()
    """Features of the embedding of each reference picture that has keys of its own."""


def config_sizes(transformer: nn.Module) -> Sizes:
    """Heads and width as models of diffusers have them in their config; None where there is no such config."""
    config = getattr(transformer, "config", None)
    heads, size = (getattr(config, name, None) for name in ("num_attention_heads", "attention_head_dim"))
    if not isinstance(heads, int):
        return Sizes()
    return Sizes(heads, heads * size if isinstance(size, int) else None)
