"""Whether a kernel heeds its mask: some of its rows beside the softmax written out."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from alignvid.errors import AttachmentError
from alignvid.models.attention_call import AttentionCall

_LOOKED_AT = 8  # queries
_VISIBLE = 0.02  # of the output: a smaller change than this may be a kernel's rounding to eight bits


def check_mask(plain: AttentionCall, biased: AttentionCall, output: Float[Tensor, "batch query heads size"]) -> None:
    """Look at some queries of the first sample, whether a kernel has given what its mask says.

    Raises: AttachmentError if its output is nearer to that without the bias.
    """
    rows = torch.arange(plain.query.shape[1], device=output.device)[:: -(-plain.query.shape[1] // _LOOKED_AT)]
    without, wanted = (softmax_of(asked, rows) for asked in (plain, biased))
    moved = wanted - without
    size = float(moved.square().sum())
    if size <= (_VISIBLE * float(without.norm())) ** 2:
        return
    share = float((moved * (output[:1, rows].float() - without)).sum()) / size
    if share < 0.5:
        raise AttachmentError(
            "The attention runs a kernel that takes a mask and does nothing with it (another node's, or a start option "
            "of the host?), so that a constant on logits cannot act: take that kernel out, or use a scalar modulation."
        )


def softmax_of(asked: AttentionCall, rows: Shaped[Tensor, " row"]) -> Float[Tensor, "1 row heads size"]:
    """What some queries of the first sample are to get, by its formula in float32."""
    repeats = asked.query.shape[2] // asked.key.shape[2]  # several heads of queries may share keys
    keys, values = (tokens[:1].repeat_interleave(repeats, 2).float() for tokens in (asked.key, asked.value))
    logits = torch.einsum("bqhd,bkhd->bhqk", asked.query[:1, rows].float() * asked.scale, keys)
    if asked.mask is not None:
        mask = asked.mask[:1] if asked.mask.shape[2] == 1 else asked.mask[:1, :, rows]
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
    return torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), values)
