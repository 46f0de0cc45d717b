"""A few samples of a data set, drawn by a rule that was written before any of them was seen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from alignvid.bench.data.samples import Sample


def drawn(samples: Sequence[Sample], count: int) -> list[Sample]:
    """So many samples, one of each main category in turn, in the order of the data set.

    Within a category the order is that of a digest of the id: it depends on no other sample and on nobody's choice.
    """
    queues: dict[str, list[Sample]] = {}
    for sample in sorted(samples, key=lambda sample: _place(sample.id)):
        queues.setdefault(sample.main_category, []).append(sample)
    chosen: set[str] = set()
    for turn in range(len(samples)):
        for category in sorted(queues):
            if turn < len(queues[category]) and len(chosen) < count:
                chosen.add(queues[category][turn].id)
    return [sample for sample in samples if sample.id in chosen]


def _place(sample_id: str) -> bytes:
    return hashlib.sha256(f"alignvid trial\0{sample_id}".encode()).digest()
