"""Overhear what a module asks of torch's `scaled_dot_product_attention`, without changing it.

Every attention processor of diffusers ends there with the native backends, be it through `dispatch_attention_fn` or
directly, so that no processor need be copied. Compiled code and other backends do not pass here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

_SOFTMAX_ATTENTION = F.scaled_dot_product_attention


class SoftmaxCall(NamedTuple):
    """The arguments of one attention that decide its weights."""

    query: Float[Tensor, "*batch query size"]
    key: Float[Tensor, "*key_batch key size"]
    mask: Tensor | None
    scale: float | None
    is_causal: bool


class SoftmaxEar(TorchFunctionMode):
    """While it is entered, `calls` collects every attention that torch is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[SoftmaxCall] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is _SOFTMAX_ATTENTION:
            self.calls.append(_read_call(*args, **kwargs))
        return func(*args, **kwargs)


def _read_call(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> SoftmaxCall:
    """By torch's own parameter names and defaults."""
    return SoftmaxCall(query, key, attn_mask, scale, is_causal)
