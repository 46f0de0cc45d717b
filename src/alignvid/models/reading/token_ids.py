"""Reference tokens that only the position ids distinguish, counted once for each tensor of ids.

Editing models pack the tokens of reference pictures behind those of the generated one; the transformer is not given
how many there are, only where each token lies. Counting them is one transfer from the device. Flux Kontext passes the
same tensor at every step, so that it happens once per run; Flux 2 joins its ids anew at every step.
"""

from __future__ import annotations

from torch import Tensor

from alignvid.models.reading.per_tensor import PerTensor

_counts, _examples = PerTensor[int](), PerTensor[int]()


def reference_tokens(ids: Tensor, first: int) -> int:
    """Tokens whose id on the first axis is at least `first`.

    Args:
        ids: (tokens, axes), or with a batch axis before, of which the first sample counts.
        first: the id with which the family numbers its first reference picture.
    """
    return _counts.of(ids, lambda: int(_first_axis(ids).ge(first).sum()))


def example_tokens(ids: Tensor) -> int:
    """Tokens whose id on the first axis, the row of a sheet of pictures, is below that of the last row.

    Args:
        ids: (tokens, axes), or with a batch axis before, of which the first sample counts.
    """
    return _examples.of(ids, lambda: int(_first_axis(ids).lt(_first_axis(ids).max()).sum()))


def _first_axis(ids: Tensor) -> Tensor:
    """Ids of the first sample's tokens on the first axis."""
    return ids[..., 0] if ids.ndim == 2 else ids[0, :, 0]
