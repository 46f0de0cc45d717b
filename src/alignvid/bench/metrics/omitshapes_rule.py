"""OmitShapes by rule, as one number per video: is the edit shown, is the rest untouched, are both so? No weights.

The kinder of the miniature's two rules, which is not that of its demo: pixels against the known scene
(alignvid.miniature.judge). The rule judge answers questions one by one; these three say how a whole clip turned out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from alignvid.bench.metrics.metric import Footage, Measure, Measurement, Metric, Setup
from alignvid.errors import InputError

if TYPE_CHECKING:
    from alignvid.miniature.judge import Judgement

Claim = Callable[["Judgement"], bool]


class _SameFootage:
    """A footage that is equal to itself alone, as a key."""

    def __init__(self, footage: Footage) -> None:
        self.frames = footage.frames
        self.sample = footage.sample

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SameFootage) and self.frames is other.frames and self.sample == other.sample

    def __hash__(self) -> int:
        return hash(self.sample)


def _metric(name: str, what: str, claim: Claim) -> Metric:
    def measure(footage: Footage) -> Measurement:
        judgement = _judgement(_SameFootage(footage))
        return Measurement(float(claim(judgement)), {"reasons": list(judgement.reasons)})

    def prepare(setup: Setup) -> Measure:
        return measure

    what = f"{what}; OmitShapes only, by rule (no weights)"
    return Metric(name=name, what=what, protocols=("native",), prepare=prepare)


@functools.lru_cache(maxsize=1)  # the three metrics of a video ask one after the other
def _judgement(footage: _SameFootage) -> Judgement:
    """Raises: InputError for another data set, or a video of another size than the miniature's."""
    from alignvid.bench.data.omitshapes import scene_of
    from alignvid.miniature.drawing import FRAMES, HEIGHT, WIDTH
    from alignvid.miniature.judge import judge

    if footage.frames.shape != (FRAMES, HEIGHT, WIDTH, 3):
        length, height, width, _ = footage.frames.shape
        raise InputError(
            f"The rule reads {FRAMES} frames of {WIDTH}×{HEIGHT} pixels, not {length} of {width}×{height}."
        )
    return judge(footage.frames, scene_of(footage.sample))


EDIT_SHOWN = _metric("edit_shown", "1 if the last frames show the whole edit", lambda found: found.edit_shown)
REST_UNTOUCHED = _metric("rest_untouched", "1 if nothing else changed", lambda found: found.rest_untouched)
BOTH = _metric("edit_shown_rest_untouched", "1 if both", lambda found: found.edit_shown and found.rest_untouched)
