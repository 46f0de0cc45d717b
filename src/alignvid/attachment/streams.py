"""Tokens by stream: how a sequence of several streams is split, by the counts of the running forward."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from alignvid.attachment.effect import State
from alignvid.errors import AttachmentError


def split_by_stream(tokens: Tensor, streams: Sequence[str], sequence_dim: int, now: State) -> tuple[Tensor, ...]:
    """The tokens of each stream, in order."""
    return tokens.split(stream_sizes(tokens.shape[sequence_dim], streams, now), sequence_dim)


def stream_sizes(total: int, streams: Sequence[str], now: State) -> list[int]:
    """Tokens of each stream, in order; the stream without a count has what the others leave.

    Raises: AttachmentError if the counts do not add up.
    """
    counts = [now.tokens_in(stream) for stream in streams]
    rest = total - sum(count for count in counts if count is not None)
    # Compiled, `total` may be known on the device only (FramePack crops its text by a mask): there is no comparing it.
    if not torch.compiler.is_dynamo_compiling() and (rest < 0 or (rest > 0 and None not in counts)):
        raise AttachmentError(
            f"{total} keys cannot be split into {now} and the rest: the family's token counts do not "
            "fit this model; see docs/families.md."
        )
    return [rest if count is None else count for count in counts]
