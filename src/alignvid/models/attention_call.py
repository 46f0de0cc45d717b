"""What one softmax is asked for, and how a host's call of it is reached where that is not diffusers' dispatch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor


class AttentionCall(NamedTuple):
    """What one softmax is asked for. The keys of all heads of a sample lie as the dispatch of diffusers has them."""

    query: Float[Tensor, "batch query heads size"]
    key: Float[Tensor, "batch key key_heads size"]
    value: Float[Tensor, "batch key key_heads value_size"]
    mask: Tensor | None
    scale: float
    """Factor on q·k; 1/√size unless the processor says otherwise."""


Kernel = Callable[[AttentionCall], Tensor]
"""Computes a softmax, as (batch, query, heads, value size)."""

Attend = Callable[[AttentionCall, Kernel], Tensor]
"""What a softmax is to give, from what it is asked for and what computes it."""

CallReach = Callable[
    [tuple[Any, ...], dict[str, Any], Attend],
    tuple[tuple[Any, ...], dict[str, Any]],
]
"""From the arguments of an attention: arguments with which each of its calls passes such a function. The mask that it
is asked with has the axes (batch, heads, query, key), each of the first three perhaps 1."""
