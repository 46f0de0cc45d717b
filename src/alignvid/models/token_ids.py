"""Reference tokens that only the position ids tell apart, counted once for each tensor of ids.

Editing models pack the tokens of reference pictures behind those of the generated one; the transformer is not told how
many there are, only where each token lies. Counting them is one transfer from the device. Flux Kontext passes the same
tensor at every step, so that it happens once per run; Flux 2 joins its ids anew at every step.
"""

from __future__ import annotations

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

_counts: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
_examples: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def reference_tokens(ids: Tensor, first: int) -> int:
    """Tokens whose id on the first axis is at least `first`.

    Args:
        ids: (tokens, axes), or with a batch axis before, of which the first sample counts.
        first: the id with which the family numbers its first reference picture.
    """
    if ids not in _counts:
        axis = ids[..., 0]
        _counts[ids] = int((axis if axis.ndim == 1 else axis[0]).ge(first).sum())
    return _counts[ids]


def example_tokens(ids: Tensor) -> int:
    """Tokens whose id on the first axis, the row of a sheet of pictures, is below that of the last row.

    Args:
        ids: (tokens, axes), or with a batch axis before, of which the first sample counts.
    """
    if ids not in _examples:
        rows = ids[..., 0] if ids.ndim == 2 else ids[0, :, 0]
        _examples[ids] = int(rows.lt(rows.max()).sum())
    return _examples[ids]
