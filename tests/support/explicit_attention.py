"""Attention written out, in place of torch's own, while a real transformer runs.

Every host ends in `torch.nn.functional.scaled_dot_product_attention`, by diffusers' dispatch or by itself; it is
replaced there, so that a layout by hand is all that a test must know of a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

torch_attention = torch.nn.functional.scaled_dot_product_attention

Attention = Callable[[str, Tensor, Tensor, Tensor, Tensor | None, float | None], Tensor]
"""From the name of the running attention, query, key, value (batch, heads, tokens, size), mask and scale to its output.
"""


class Keys(NamedTuple):
    """The keys of one softmax of each block in a stack."""

    stack: str
    attention: str
    """Path of the attention in the block; empty if it is the block."""
    tokens: dict[str, int]
    """Tokens by target, in the order of the sequence."""

    def name(self, block: int) -> str:
        return f"{self.stack}.{block}.{self.attention}".rstrip(".")


class Arguments(NamedTuple):
    """What a transformer was called with."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Forward(NamedTuple):
    """What one forward of a transformer computed."""

    attentions: list[Tensor]
    """Output of every softmax, in the order of execution."""
    sample: Tensor


def softmax_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None, gain: Tensor
) -> Tensor:
    """softmax(gain · q kᵀ · scale) v, one gain per key; scale is 1/√d unless given.

    A query that may look at nothing gets nothing, as from torch.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    logits = gain * torch.einsum("bhqd,bhkd->bhqk", query, key) * scale
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
    weights = logits.softmax(-1).nan_to_num(0.0)  # as torch has it, a query that may see no key gets nothing
    return torch.einsum("bhqk,bhkd->bhqd", weights, value)


def forward(
    transformer: nn.Module,
    arguments: Arguments,
    attention: Attention | None = None,
    following: Forward | None = None,
) -> Forward:
    """Run a transformer, each softmax computed by `attention` or as torch does.

    With `following`, the run continues with the outputs of that one, so that each softmax has the same inputs as there
    and rounding does not add up; what is given back is still what `attention` computed.
    """
    outputs, running = [], [""]

    def replacement(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *rest: Any, **options: Any
    ) -> Tensor:
        if options.pop("is_causal", False):
            attn_mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril()
        if options.pop("enable_gqa", False):  # queries of several heads look at the same keys
            key, value = (heads.repeat_interleave(query.shape[1] // key.shape[1], 1) for heads in (key, value))
        if attention is None:
            with sdpa_kernel(SDPBackend.MATH):  # the fast kernel's exponential is off by 2e-6
                outputs.append(torch_attention(query, key, value, attn_mask, *rest, **options))
        else:
            outputs.append(attention(running[0], query, key, value, attn_mask, options.get("scale")))
        return outputs[-1] if following is None else following.attentions[len(outputs) - 1]

    with ExitStack() as undo, torch.no_grad():
        for name, module in transformer.named_modules():
            if hasattr(module, "processor") or hasattr(module, "to_q") or _is_bare_softmax(module):
                hook = module.register_forward_pre_hook(lambda *_, name=name: running.__setitem__(0, name))
                undo.callback(hook.remove)
        undo.enter_context(patch.object(Tensor, "bfloat16", lambda values: values))  # SANA-WM rounds queries and keys
        undo.enter_context(patch.object(torch.nn.functional, "scaled_dot_product_attention", replacement))
        given = {key: value.copy() if isinstance(value, list) else value for key, value in arguments.kwargs.items()}
        sample = transformer(*arguments.args, **given | {"return_dict": False})[0]  # HunyuanDiT empties a list
    return Forward(outputs, torch.stack(sample) if isinstance(sample, list) else sample)


def _is_bare_softmax(module: nn.Module) -> bool:
    """Whether it is one of SANA-WM's, which hold neither projections nor a processor."""
    return type(module).__name__.startswith("SanaWMSoftmax")


def ground_truth(
    transformer: nn.Module,
    arguments: Arguments,
    layout: Sequence[Keys],
    gains: Mapping[str, float],
    blocks: Sequence[int],
    following: Forward | None = None,
) -> Forward:
    """The forward with the explicit attention, and these gains by target in these blocks of each stack."""

    def attention(
        name: str, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None
    ) -> Tensor:
        gain = torch.ones(key.shape[2])
        for keys in layout:
            if name in [keys.name(block) for block in blocks] and key.shape[2] == sum(keys.tokens.values()):
                gain = torch.cat([torch.full((count,), gains.get(t, 1.0)) for t, count in keys.tokens.items()])
        return softmax_attention(query, key, value, mask, scale, gain)

    return forward(transformer, arguments, attention, following)


def first_keys(transformer: nn.Module, arguments: Arguments, keys: Keys) -> Tensor:
    """Keys (batch, heads, tokens, size) of the first block of a stack, before any attention has mixed the tokens."""
    seen = []

    def attention(
        name: str, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None
    ) -> Tensor:
        if name == keys.name(0) and key.shape[2] == sum(keys.tokens.values()):
            seen.append(key)
        return softmax_attention(query, key, value, mask, scale, torch.ones(key.shape[2]))

    forward(transformer, arguments, attention)
    return seen[0]


def largest_difference(one: Forward, other: Forward) -> float:
    pairs = zip([*one.attentions, one.sample], [*other.attentions, other.sample], strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)
