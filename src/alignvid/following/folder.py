"""The folder of a loop: what was asked, every video, every answer. The same call again reads it and makes the rest.

OUT/following.json      what decides the videos; another call in this folder must have the same
OUT/questions.json      what is asked; edit it, and the videos that are there are judged anew
OUT/attempts.jsonl      a row for each video; OUT/attempt-1/ … hold them
OUT/judged.jsonl        a row for each video and judge
OUT/best.mp4            the best video so far, written when the loop ends
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from alignvid.errors import InputError, UnreadableFile
from alignvid.fields import Count, Duration, InnerPath, Share, json_bytes, json_values, read
from alignvid.files import (
    append_lines,
    folder_for_results,
    held,
    is_there,
    json_lines,
    read_bytes,
    read_json,
    sha256_of_file,
    write_bytes,
)
from alignvid.following.attempts import Followed, Made, MadeFacts
from alignvid.following.questions import Answer, Answered, Question
from alignvid.media.videos import Frames, read_video

SCHEMA_VERSION = 1
PLAN_FILE, QUESTIONS_FILE, ATTEMPTS_FILE, JUDGED_FILE = (
    "following.json",
    "questions.json",
    "attempts.jsonl",
    "judged.jsonl",
)
_LOCK = ".following.lock"
BEST = "best"
"""Stem of the best video's file."""


@dataclass(frozen=True, kw_only=True)
class AttemptRow(MadeFacts):
    """One video of a loop."""

    number: Count
    """From 1."""
    seed: Count
    """Of its noise."""
    file: InnerPath
    """Relative to the folder."""
    sha256: str
    """Of the file."""


@dataclass(frozen=True, kw_only=True)
class AnswerFacts:
    """One question with its answer."""

    question: str
    expected_answer: Literal["yes", "no"]
    about: Literal["edit", "rest"]
    p_yes: Share | None
    """None: neither yes nor no."""
    text: str | None
    """The judge's words."""


@dataclass(frozen=True, kw_only=True)
class JudgedRow:
    """What one judge said of one video."""

    number: Count
    sha256: str
    """Of the video's file."""
    judge: str
    """What it calls itself."""
    answers: tuple[AnswerFacts, ...]
    seconds: Duration


@contextlib.contextmanager
def opened_folder(out: Path, plan: Mapping[str, Any]) -> Iterator[LoopFolder]:
    """The folder of a loop, begun or continued, for this process alone; a new one goes again if nothing came of it.

    Raises: InputError if it holds the attempts of another plan, or another process works in it.
    """
    with folder_for_results(out) as path:
        busy = f"Another process makes attempts in {str(path)!r}; wait until it ends, or give another folder."
        with held(path / _LOCK, busy=busy):
            yield LoopFolder(path, plan)


class LoopFolder:
    """What is there of a loop, and what is added to it."""

    def __init__(self, path: Path, plan: Mapping[str, Any]) -> None:
        """Open it, or begin it with this plan. Raises: InputError if it holds the attempts of another one."""
        self.path = path
        values = {"schema_version": SCHEMA_VERSION, **plan}
        file = path / PLAN_FILE
        if not is_there(file):
            write_bytes(file, json_bytes(values, indent=2))
            return
        if differing := _differing(_object(file), json_values(json_bytes(values), error=InputError)):
            what = "other weights of the model" if differing == "weights" else f"another {differing}"
            raise InputError(f"{str(path)!r} holds attempts with {what}; give a new folder, or the same as before.")

    def made(self, number: int) -> Made | None:
        """The video of an attempt, if it is there whole."""
        rows = self.rows(ATTEMPTS_FILE, AttemptRow)
        row = next((row for row in reversed(rows) if row.number == number), None)
        if row is None or not _is_whole(self.path / row.file, row.sha256):
            return None
        file = self.path / row.file
        return Made(frames=frames_in(file), file=file, **row.facts())

    def keep(self, number: int, seed: int, made: Made) -> None:
        """Note a video that was written into the folder."""
        if made.file is None:
            raise InputError("An attempt without a file cannot be kept in a folder.")
        facts: dict[str, Any] = made.facts() | {"seconds": round(made.seconds, 3)}
        file = str(made.file.relative_to(self.path))
        row = AttemptRow(number=number, seed=seed, file=file, sha256=sha256_of_file(made.file), **facts)
        self._append(ATTEMPTS_FILE, row)

    def answers(
        self, made: Made, judge: str, questions: Sequence[Question]
    ) -> tuple[tuple[Answered, ...], float] | None:
        """What this judge said of a video when it was asked just these questions, and the seconds that it took."""
        digest = sha256_of_file(made.file) if made.file else None
        for row in reversed(self.rows(JUDGED_FILE, JudgedRow)):
            found = tuple(_answered(facts) for facts in row.answers)
            if (row.sha256, row.judge) == (digest, judge) and [one.question for one in found] == list(questions):
                return found, row.seconds
        return None

    def keep_answers(self, number: int, made: Made, judge: str, answers: Sequence[Answered], seconds: float) -> None:
        """Note what a judge said."""
        facts = tuple(AnswerFacts(**one.to_dict()) for one in answers)
        digest = sha256_of_file(made.file) if made.file else ""
        row = JudgedRow(number=number, sha256=digest, judge=judge, answers=facts, seconds=round(seconds, 3))
        self._append(JUDGED_FILE, row)

    def keep_best(self, followed: Followed) -> Path | None:
        """Copy the best video to the folder itself, under a name that does not depend on its number."""
        if followed.best is None or followed.best.made.file is None:
            return None
        source = followed.best.made.file
        target = self.path / f"{BEST}{source.suffix}"
        write_bytes(target, read_bytes(source))
        return target

    def _append(self, name: str, row: AttemptRow | JudgedRow) -> None:
        append_lines(self.path / name, [json_bytes({"schema_version": SCHEMA_VERSION, **asdict(row)})])

    def rows(self, name: str, kind: Any) -> list[Any]:
        """The rows of a file; a torn last line is passed over."""
        return [
            read(kind, _of_this_version(values, place), what=place, error=InputError)
            for place, values in json_lines(self.path / name)
        ]


def read_questions(path: Path) -> tuple[Question, ...]:
    """The questions in a file that this room wrote, and perhaps a user edited.

    Raises: InputError naming what is wrong.
    """
    try:
        values: Any = read_json(path)
    except UnreadableFile as error:
        raise InputError(f"The questions {str(error).rstrip('.')}; mend the file, or remove it.") from error
    if not isinstance(values, list) or not values:
        raise InputError(f"{str(path)!r} holds no list of questions; mend the file, or remove it.")
    return tuple(
        read(Question, one, what=f"{str(path)!r}, question {number}", error=InputError)
        for number, one in enumerate(values, start=1)
    )


def write_questions(path: Path, questions: Sequence[Question]) -> None:
    """Write questions so that a user can edit them."""
    write_bytes(path, json_bytes([one.to_dict() for one in questions], indent=2))


def frames_in(file: Path) -> Frames:
    """The frames of a video or picture file."""
    if file.suffix == ".png":
        with Image.open(file) as picture:
            return np.asarray(picture.convert("RGB"))[None]
    return read_video(file).frames


def _answered(facts: AnswerFacts) -> Answered:
    question = Question(facts.question, facts.expected_answer, facts.about)
    return Answered(question, Answer(facts.p_yes, facts.text))


def _is_whole(file: Path, sha256: str) -> bool:
    try:
        return sha256_of_file(file) == sha256
    except UnreadableFile:
        return False


def _object(file: Path) -> dict[str, Any]:
    try:
        values: Any = read_json(file)
    except UnreadableFile as error:
        raise InputError(f"The loop's plan {str(error).rstrip('.')}; give a new folder.") from error
    if not isinstance(values, dict):
        raise InputError(f"{str(file)!r} holds no plan of a loop; give a new folder.")
    return values


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """What differs first between two plans."""
    return next((name for name in {**now, **before} if before.get(name) != now.get(name)), None)


def _of_this_version(values: Any, place: str) -> Any:
    if not isinstance(values, dict):
        return values
    if values.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{place} has schema version {values.get('schema_version')!r}, this alignvid reads {SCHEMA_VERSION}."
        )
    return {name: value for name, value in values.items() if name != "schema_version"}
