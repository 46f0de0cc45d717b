"""The rule judge of OmitShapes: what each cell shows at the end of the file's video, against what a question claims.

It reads pixels. Of the sample it knows the scene's background, of the question its claim; never the expected answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alignvid.bench.data.samples import Sample
from alignvid.bench.judges.base import (
    Case,
    Deliver,
    Judge,
    JudgeIdentity,
    JudgeKind,
    JudgeOptions,
    Reply,
    answer_in_turn,
)
from alignvid.bench.records import VideoRecord
from alignvid.bench.verdicts import Verdict
from alignvid.errors import InputError
from alignvid.media.videos import Clip, read_video

if TYPE_CHECKING:
    from alignvid.miniature.judge import Sight
    from alignvid.miniature.scenes import Scene

_RULE_VERSION = 1
"""Raise it when the same pixels could get another answer."""
_OTHERS = "Take --judge transformers or --judge openai."


@dataclass(frozen=True)
class RuleJudge(Judge):
    """Answers the questions of OmitShapes."""

    @property
    def identity(self) -> JudgeIdentity:
        """The rule and its thresholds."""
        return JudgeIdentity(judge="rule", protocol="rule", settings=_settings())

    def check(self, samples: Sequence[Sample], videos: Sequence[VideoRecord]) -> None:
        """At least one sample is of OmitShapes, and at least one video has the size that is read.

        A stray one of another kind costs itself: its answers FAIL.
        Raises: InputError.
        """
        from alignvid.miniature.drawing import FRAMES, HEIGHT, WIDTH

        troubles = [_trouble_with(sample) for sample in samples]
        if troubles and all(troubles):
            raise InputError(f"The rule judge knows OmitShapes alone: {str(troubles[0]).rstrip('.')}. {_OTHERS}")
        shapes = {(video.frames, video.width, video.height) for video in videos if video.status == "done"}
        if shapes and (FRAMES, WIDTH, HEIGHT) not in shapes:
            frames, width, height = next(iter(shapes))
            raise InputError(
                f"The rule judge reads {FRAMES} frames of {WIDTH}×{HEIGHT} pixels, and the videos of this run have "
                f"{frames} of {width}×{height}. {_OTHERS}"
            )

    def answer(self, cases: Iterable[Case], deliver: Deliver) -> None:
        """One video after the other."""
        answer_in_turn(cases, deliver, _replies)


def sights(clip: Clip, scene: Scene) -> list[Sight]:
    """What each cell shows at the end, in the order of the cells."""
    import numpy as np

    from alignvid.miniature import judge
    from alignvid.miniature.drawing import EDIT_COMPLETE_AT, FRAMES, HEIGHT, WIDTH, paint_background
    from alignvid.miniature.scenes import CELLS

    if clip.frames.shape != (FRAMES, HEIGHT, WIDTH, 3):
        raise InputError(
            f"The rule judge reads {FRAMES} frames of {WIDTH}×{HEIGHT} pixels, not {len(clip.frames)} of "
            f"{clip.frames.shape[2]}×{clip.frames.shape[1]}; ask another judge about this video."
        )
    last = judge.blur(clip.frames[EDIT_COMPLETE_AT:].astype(np.float32).mean(0), judge.BLUR)
    background = paint_background(scene.background)
    return [judge.look(last, background, cell, may_grow=False) for cell in CELLS]


def _trouble_with(sample: Sample) -> InputError | None:
    """Why a sample is none of OmitShapes."""
    from alignvid.bench.data.omitshapes import claim_of, scene_of

    try:
        scene_of(sample.id)
        for question in sample.questions:
            claim_of(question)
    except InputError as error:
        return error
    return None


def _replies(case: Case) -> Iterator[Reply]:
    from alignvid.bench.data.omitshapes import claim_of, scene_of

    claims = [claim_of(question) for question in case.questions]
    seen = sights(read_video(case.video), scene_of(case.sample.id))
    for claim in claims:
        holds = claim.holds(lambda shape: seen[shape.cell].is_explained_by(shape))
        yield Reply(verdict=Verdict.YES if holds else Verdict.NO, text=_said(seen))


def _said(seen: list[Sight]) -> str:
    """What was seen, in words."""
    from alignvid.miniature.scenes import place_name

    found = [f"{sight} at the {place_name(cell)}" for cell, sight in enumerate(seen) if str(sight) != "nothing"]
    return ", ".join(found) or "nothing"


def _settings() -> dict[str, Any]:
    from alignvid.miniature import judge

    names = ("EMPTY_BELOW", "COLOUR_WITHIN", "TOLERANCE", "LEEWAY", "BLUR", "SHIFTS", "CELL_WINDOW")
    values = {name.lower(): getattr(judge, name) for name in names}
    return {"rule": _RULE_VERSION, **values, "shifts": list(judge.SHIFTS)}


def _open(options: JudgeOptions) -> RuleJudge:
    return RuleJudge()


KIND = JudgeKind(name="rule", protocols=("rule",), options=frozenset(), open=_open)
