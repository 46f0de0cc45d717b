"""What every attention of a run asks of diffusers' dispatch, and what it gets."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn

from pipelines import generate


class Asked(NamedTuple):
    """One call, as the processor makes it: tensors are (batch, token, heads, size)."""

    attention: str
    """Path of the module in the transformer."""
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scale: float
    output: Tensor

    def softmax(self, query: Tensor | None = None, key: Tensor | None = None) -> Tensor:
        """Weights (batch, heads, query, key), written out; with other queries or keys, if they are given."""
        query, key = self.query if query is None else query, self.key if key is None else key
        key = key.repeat_interleave(query.shape[2] // key.shape[2], 2)
        logits = torch.einsum("bqhd,bkhd->bhqk", query, key) * self.scale
        if self.mask is not None:
            is_bool = self.mask.dtype == torch.bool
            logits = logits.masked_fill(~self.mask, -torch.inf) if is_bool else logits + self.mask
        return logits.softmax(-1).nan_to_num(0.0)  # as torch has it, a query that may see no key gets nothing

    def attended(self, weights: Tensor, value: Tensor | None = None) -> Tensor:
        """What the attention gives with these weights; with other values, if they are given."""
        value = self.value if value is None else value
        return torch.einsum("bhqk,bkhd->bqhd", weights, value.repeat_interleave(weights.shape[1] // value.shape[2], 2))


@contextmanager
def heard(transformer: nn.Module) -> Iterator[list[Asked]]:
    """Every call while the context is open, in order. It lies over what alignvid does to the calls."""
    calls: list[Asked] = []
    running = [""]
    kinds = {type(processor).__module__ for _, processor in _processors(transformer)}
    with ExitStack() as stack:
        for name, _ in _processors(transformer):
            module = transformer.get_submodule(name)
            hook = module.register_forward_pre_hook(lambda *_, name=name: running.__setitem__(0, name))
            stack.callback(hook.remove)
        for kind in kinds:
            owner = sys.modules[kind]
            if hasattr(owner, "dispatch_attention_fn"):
                stack.enter_context(patch.object(owner, "dispatch_attention_fn", _hearing(owner, calls, running)))
        yield calls


def calls_of(pipe: Any, call: dict[str, Any]) -> dict[str, Asked]:
    """The first call of each attention of a run, by the attention's path."""
    with heard(pipe.transformer) as calls:
        generate(pipe, call)
    return {asked.attention: asked for asked in reversed(calls)}


def _processors(transformer: nn.Module) -> list[tuple[str, Any]]:
    return [(name, module.processor) for name, module in transformer.named_modules() if hasattr(module, "processor")]


def _hearing(owner: Any, calls: list[Asked], running: list[str]) -> Any:
    original = owner.dispatch_attention_fn

    def hear(query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        output = original(query, key, value, attn_mask, *args, **kwargs)
        scale = kwargs.get("scale") or query.shape[-1] ** -0.5
        calls.append(Asked(running[0], query.clone(), key.clone(), value.clone(), attn_mask, scale, output.clone()))
        return output

    return hear
