"""Audit a judge: people answer a blind sample of its questions, and the disagreement says how far to trust its scores.

Every answered question has the same chance to be drawn. The draw goes through them in order of variant, category and
verdict with equal steps from a random start, so each of these strata gets its share and no weights are needed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np

from alignvid.bench.data.samples import Question, Sample
from alignvid.bench.scoring.judged_run import JudgedRun
from alignvid.bench.verdicts import Verdict
from alignvid.errors import InputError, UnreadableFile
from alignvid.fields import json_values, read
from alignvid.files import read_bytes, sha256_of_file

HumanAnswer = Literal["yes", "no", "unclear"]
Key = tuple[str, str]
"""Job and question."""
READ = (Verdict.YES, Verdict.NO, Verdict.UNPARSED)
"""Verdicts that say what a judge made of a video; FAILED says nothing of the judge."""


class _Answer(TypedDict):
    """What the audit's page saves of a question."""

    job: str
    question: str
    answer: HumanAnswer


@dataclass(frozen=True)
class AnsweredQuestion:
    """One question about one video, and what the judge made of it."""

    job: str
    variant: str
    sample: Sample
    question: Question
    video: str
    """Relative to the run's folder."""
    video_sha256: str
    """Of the file that was judged."""
    width: int | None
    height: int | None
    verdict: Verdict

    @property
    def key(self) -> Key:
        """What no other one has."""
        return self.job, self.question.id

    @property
    def stratum(self) -> tuple[str, str, str]:
        """What the draw is spread over."""
        return self.variant, self.question.category, self.verdict


def answered_questions(run: JudgedRun) -> list[AnsweredQuestion]:
    """Every question that the judge gave a verdict on, in a fixed order."""
    samples = {sample.id: sample for sample in run.samples}
    return [
        AnsweredQuestion(
            job=video.job,
            variant=cell.variant,
            sample=samples[cell.sample],
            question=question,
            video=str(video.file),
            video_sha256=str(video.sha256),
            width=video.width,
            height=video.height,
            verdict=row.verdict,
        )
        for cell, video in sorted(run.videos.items())
        for question in samples[cell.sample].questions
        if (row := run.answers.get((video.job, question.id))) is not None and row.verdict in READ
    ]


def draw(questions: Iterable[AnsweredQuestion], count: int, seed: int) -> list[AnsweredQuestion]:
    """A stratified sample in random order; all of them where there are no more. The same seed draws the same."""
    rng = np.random.default_rng(seed)
    pool = list(questions)
    mixed = [pool[index] for index in rng.permutation(len(pool))]
    ordered = sorted(mixed, key=lambda item: item.stratum)  # a stable sort: within a stratum the order is random
    count = min(count, len(ordered))
    if count == 0:
        return []
    step, start = len(ordered) / count, rng.random()
    chosen = [ordered[int((index + start) * step)] for index in range(count)]
    return [chosen[index] for index in rng.permutation(count)]


def check_videos(run: Path, items: Iterable[AnsweredQuestion]) -> None:
    """Make sure that people will see what the judge saw.

    Raises: InputError naming a video that is gone, or is not the one that was judged.
    """
    for video, sha256 in sorted({(item.video, item.video_sha256) for item in items}):
        file = run / video
        if _sha256(file) != sha256:
            raise InputError(
                f"{str(file)!r} is gone, or is not the video that was judged; "
                "type the line of `alignvid bench run` again."
            )


def read_human_answers(path: Path, known: Mapping[Key, AnsweredQuestion]) -> dict[Key, HumanAnswer]:
    """What people answered, by job and question, from a file that the audit's page saved (JSON or CSV).

    Raises: InputError naming the row that is no answer, or is about a question that this judge did not answer.
    """
    answers: dict[Key, HumanAnswer] = {}
    for number, row in enumerate(_rows(path), start=1):
        place = f"{str(path)!r}, answer {number}"
        answer = read(_Answer, row, what=place, error=InputError)
        key = answer["job"], answer["question"]
        if key not in known:
            raise InputError(f"{place} is about job {key[0]!r}, question {key[1]!r}, which the judge did not answer.")
        if key in answers:
            raise InputError(f"{place} answers job {key[0]!r}, question {key[1]!r} a second time; keep one of them.")
        answers[key] = answer["answer"]
    if not answers:
        raise InputError(f"{str(path)!r} holds no answer; answer some questions on the audit's page first.")
    return answers


def _sha256(file: Path) -> str | None:
    try:
        return sha256_of_file(file)
    except UnreadableFile:
        return None


def _rows(path: Path) -> list[Any]:
    try:
        text = read_bytes(path).decode("utf-8-sig")
        if path.suffix.lower() == ".csv":
            return list(csv.DictReader(io.StringIO(text)))
        rows = json_values(text, error=InputError)["answers"]
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise InputError(
            f"{str(path)!r} cannot be read as answers ({type(error).__name__}: {error}); "
            "give a .json or .csv file that the audit's page saved."
        ) from error
    if not isinstance(rows, list):
        raise InputError(f"{str(path)!r} holds no list of answers; give a file that the audit's page saved.")
    return rows
