"""A judge of benchmarks as the judge of a loop (alignvid.following): a function of frames and questions."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alignvid.bench.data import samples
from alignvid.bench.judges.base import Case, Judge, Reply
from alignvid.bench.verdicts import Verdict
from alignvid.errors import JudgeError
from alignvid.following.questions import Answer, Question
from alignvid.media.videos import Frames, write_video

_KEPT = "preservation"
"""Category of a data set's questions about what must stay."""


@dataclass(frozen=True)
class Asker:
    """Asks a vision-language judge about an attempt.

    `Asker(open_judge("openai", JudgeOptions(base_url=…)), fps=16)` is what `alignvid.follow` takes.
    """

    judge: Judge
    fps: float
    """Of the video: judges choose frames by time."""

    @property
    def identity(self) -> str:
        """Kind, model, protocol and the digest of all settings."""
        own = self.judge.identity
        return f"{own.judge}, protocol {own.protocol}, settings {own.digest}"

    def __call__(self, frames: Frames, questions: tuple[Question, ...]) -> list[Answer]:
        """An answer to each question.

        Raises: JudgeError if one FAILED; what the judge raises where it can answer nothing.
        """
        asked = [_as_sample_question(number, one) for number, one in enumerate(questions)]
        replies: dict[str, Reply] = {}
        with tempfile.TemporaryDirectory() as folder:
            video = Path(folder) / "attempt.mp4"
            write_video(video, frames, self.fps)
            case = Case(job="attempt", sample=_sample(frames, asked), video=video, questions=tuple(asked))
            self.judge.answer([case], lambda case, question, reply: replies.__setitem__(question.id, reply))
        return [_answer(replies.get(one.id), one.question) for one in asked]


def questions_of(sample: samples.Sample) -> tuple[Question, ...]:
    """The questions of a data set's sample, as a loop asks them."""
    return tuple(
        Question(one.question, one.expected_answer, "rest" if one.category == _KEPT else "edit")
        for one in sample.questions
    )


def _as_sample_question(number: int, question: Question) -> samples.Question:
    return samples.Question(
        id=str(number),
        question=question.question,
        expected_answer=question.expected_answer,
        category=question.about,
    )


def _sample(frames: Frames, questions: Sequence[samples.Question]) -> samples.Sample:
    """What a judge is given of the case; a loop knows no categories."""
    return samples.Sample(
        id="attempt",
        image_path="attempt.png",
        prompt="",
        main_category="",
        sub_category="",
        domain="",
        expected_change="",
        resolution=(frames.shape[2], frames.shape[1]),
        questions=tuple(questions),
    )


def _answer(reply: Reply | None, question: str) -> Answer:
    if reply is None or reply.verdict is Verdict.FAILED:
        raise JudgeError(f"The judge did not answer {question!r}: {reply.error if reply else 'no reply came'}.")
    if reply.verdict is Verdict.UNPARSED:
        return Answer(None, reply.text)
    p_yes = float(reply.verdict is Verdict.YES) if reply.p_yes is None else reply.p_yes
    return Answer(p_yes, reply.text)
