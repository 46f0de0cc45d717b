"""The two halves of a data set: recipes are chosen on one and claims made on the other."""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

Half = Literal["development", "claim"]
HALVES: tuple[Half, ...] = get_args(Half)


def half_of(sample_id: str) -> Half:
    """The half that a sample belongs to, by a digest of its id: it depends on no other sample, and on no order."""
    return HALVES[hashlib.sha256(sample_id.encode()).digest()[0] % 2]
