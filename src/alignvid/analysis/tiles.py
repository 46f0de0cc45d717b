"""Attention logits, a few query rows at a time: exact, in memory that does not grow with the square of the tokens.

A tile holds so few logits that it stays in the processor's cache. There one matrix product, one softmax and a handful
of sums cost 1.3 to 1.8 times as much as one fused attention call with V := K (8,192 tokens, benchmarks/measures.py).
That call gives the entropy alone; this gives every measure, the variance too, which no fused kernel returns. Masks,
grouped heads and half precision need no case of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import wraps
from typing import NamedTuple, ParamSpec, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

_LOGITS_PER_TILE = {"cpu": 1 << 19}  # 2 MB: within a core's share of the cache
_LOGITS_PER_TILE_ELSEWHERE = 1 << 26  # 256 MB: enough work for a GPU to hide the launches; not measured

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Tile(NamedTuple):
    """The logits of some query rows. Samples and heads lie along one axis, (sample 0, head 0), (sample 0, head 1), …"""

    place: tuple[slice, slice]
    """Where the rows lie in (batch x head, query, …)."""
    energy: Float[Tensor, "head row key"]
    """q·k times the scale: what a gain multiplies. Overwritten by the next tile."""
    bias: Float[Tensor, "head row key"] | None
    """What the mask adds; -inf where a query may not look."""
    spare: Float[Tensor, "head row key"]
    """Memory to work in. Overwritten by the next tile, too: fresh memory would cost more than the sums on it."""


def exactly(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Run a function without gradients and without autocast, which would compute the logits in half precision."""

    @wraps(function)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        with torch.no_grad(), ExitStack() as stack:
            for device in ("cpu", "cuda"):
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            return function(*args, **kwargs)

    return run


def tiles(
    query: Float[Tensor, "batch head query size"],
    key: Float[Tensor, "batch key_head key size"],
    mask: Tensor | None,
    scale: float | None,
) -> Iterator[Tile]:
    """Every logit of an attention once, in single precision.

    Args:
        query: as the attention sees it, after norm and rotary embedding.
        key: likewise; with grouped heads each serves `head / key_head` query heads in a row.
        mask: boolean (True: may look) or a bias, in any shape that broadcasts to (batch, head, query, key).
        scale: factor on q·k; 1/√size if None.
    """
    batch, heads, queries, size = query.shape
    keys, group = key.shape[2], heads // key.shape[1]
    scaled = (query.float() * (size**-0.5 if scale is None else scale)).flatten(0, 1)
    columns = (key if group == 1 else key.repeat_interleave(group, 1)).float().flatten(0, 1).transpose(1, 2)
    mask = None if mask is None else mask.expand(batch, heads, queries, keys)
    limit = _LOGITS_PER_TILE.get(query.device.type, _LOGITS_PER_TILE_ELSEWHERE)
    head_step, row_step = _tile_shape(batch * heads, queries, keys, limit)
    buffers = scaled.new_empty(2, head_step * row_step * keys)
    for some_heads in _slices(batch * heads, head_step):
        for rows in _slices(queries, row_step):
            left, right = scaled[some_heads, rows], columns[some_heads]
            energy, spare = buffers[:, : left.shape[0] * left.shape[1] * keys].view(2, *left.shape[:2], keys)
            torch.bmm(left, right, out=energy)
            yield Tile((some_heads, rows), energy, None if mask is None else _bias(mask, some_heads, rows), spare)


def _tile_shape(heads: int, queries: int, keys: int, limit: int) -> tuple[int, int]:
    """Heads and rows per tile: whole heads where several fit, else some rows of one."""
    head_step = min(heads, max(1, limit // (queries * keys)))
    return head_step, min(queries, max(1, limit // keys))


def _slices(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def _bias(mask: Tensor, some_heads: slice, rows: slice) -> Float[Tensor, "head row key"]:
    """A part of a mask as a bias. Libraries write "may not look" as -inf or as the most negative number of the type."""
    index = torch.arange(some_heads.start, some_heads.stop, device=mask.device)
    part = mask[:, :, rows][index // mask.shape[1], index % mask.shape[1]]  # -> (head, row, key)
    if mask.dtype == torch.bool:
        return torch.zeros(part.shape, device=mask.device).masked_fill_(~part, -torch.inf)
    return part.float().masked_fill(part <= torch.finfo(mask.dtype).min / 2, -torch.inf)
