"""The rule judge of OmitShapes: what each cell shows at the end of the file's video, against what a question claims.

It reads pixels, as the miniature's stricter judge does (alignvid.miniature.strict). Of the sample it knows the scene's
background, of the question its claim; never the expected answer.
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
    from alignvid.bench.data.claims import Claim
    from alignvid.miniature.scenes import Scene, Shape
    from alignvid.miniature.strict import Ending

_RULE_VERSION = 2
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


def ending(clip: Clip, scene: Scene) -> Ending:
    """What each cell shows at the end."""
    import numpy as np

    from alignvid.miniature.drawing import EDIT_COMPLETE_AT, FRAMES, HEIGHT, WIDTH
    from alignvid.miniature.judge import BLUR, blur
    from alignvid.miniature.picture import known_ground
    from alignvid.miniature.strict import Ending

    if clip.frames.shape != (FRAMES, HEIGHT, WIDTH, 3):
        raise InputError(
            f"The rule judge reads {FRAMES} frames of {WIDTH}×{HEIGHT} pixels, not {len(clip.frames)} of "
            f"{clip.frames.shape[2]}×{clip.frames.shape[1]}; ask another judge about this video."
        )
    last = blur(clip.frames[EDIT_COMPLETE_AT:].astype(np.float32).mean(0), BLUR)
    return Ending(last, known_ground(scene.background))


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
    end = ending(read_video(case.video), scene_of(case.sample.id))
    for claim in claims:
        holds = claim.holds(lambda shape, claim=claim: _is_there(end, shape, claim))
        yield Reply(verdict=Verdict.YES if holds else Verdict.NO, text=_said(end))


def _is_there(end: Ending, shape: Shape, claim: Claim) -> bool:
    """Whether the cell shows the shape; where a claim is about any shape, a blot or a ghost is one."""
    from alignvid.miniature.requests import Wanted
    from alignvid.miniature.strict import AS_GOOD_AS

    if (claim.colour, claim.kind, claim.size) == (None, None, None):
        return not end.is_bare(shape.cell)
    return end.shows(shape.cell, Wanted(shape.colour, shape.kind, shape.size), AS_GOOD_AS)


def _said(end: Ending) -> str:
    """What was seen, in words."""
    from alignvid.miniature.scenes import CELLS, place_name

    found = [(cell, end.said(cell)) for cell in CELLS]
    return ", ".join(f"{said} at the {place_name(cell)}" for cell, said in found if said != "nothing") or "nothing"


def _settings() -> dict[str, Any]:
    from alignvid.miniature import judge, strict

    looks = {name.lower(): getattr(judge, name) for name in ("COLOUR_WITHIN", "BLUR", "CELL_WINDOW")}
    names = ("BARE_BELOW", "PATCH", "CORNERS_COUNT", "SHAPELESS_ABOVE", "AS_GOOD_AS")
    calls = {name.lower(): getattr(strict, name) for name in names}
    growths = {size: list(values) for size, values in judge.GROWTHS.items()}
    return {"rule": _RULE_VERSION, **looks, **calls, "growths": growths, "shifts": list(judge.SHIFTS)}


def _open(options: JudgeOptions) -> RuleJudge:
    return RuleJudge()


KIND = JudgeKind(name="rule", protocols=("rule",), options=frozenset(), open=_open)
