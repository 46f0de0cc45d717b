"""What lists of prompts have in common, with pictures or without: checked texts, ids, and one question for each.

Such data sets score by models of their own (detectors, trackers, marks from 0 to 10) and have no yes/no questions. So
that a judge can be asked at all, each sample gets one: is what was asked for there? It is not the data set's score.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from alignvid.bench.data.samples import Question, Sample
from alignvid.errors import InputError, UnreadableFile
from alignvid.fields import json_values, read
from alignvid.files import found_below, read_bytes, read_lines
from alignvid.generate.prompts import check_prompt

FOLLOWED = "prompt_followed"
"""Category of the one question."""
_ASKED = {
    "video": "Does the video show what was asked for here: “{prompt}”?",
    "picture": "Does the picture show what was asked for here: “{prompt}”?",
    "edit": "Is the picture the result of this instruction: “{prompt}”?",
}
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


def followed_question(prompt: str, kind: str) -> tuple[Question, ...]:
    """The one question about a sample: a "video", a "picture" or an "edit" of one."""
    asked = _ASKED[kind].format(prompt=prompt)
    return (Question(id="followed", question=asked, expected_answer="yes", category=FOLLOWED),)


def own_questions(values: Any, place: str) -> tuple[Question, ...]:
    """A row's questions, in the form of OmitI2V's. Raises: InputError naming the place if they are not in that form."""
    if not isinstance(values, list) or not values:
        raise InputError(f"{place}: questions must be a list with one or more; leave it out to have one made.")
    found = tuple(read(Question, value, what=f"{place}: a question", error=InputError) for value in values)
    if twice := _twice(question.id for question in found):
        raise InputError(f"{place}: two questions have the id {twice!r}; ids must differ.")
    return found


def text_lines(file: Path) -> list[tuple[int, str]]:
    """The lines of a text file that hold anything, with their numbers.

    Raises: InputError if there is no such file, no such line, or one that is not UTF-8.
    """
    return [(number, _decoded(line, f"{str(file)!r}, line {number}")) for number, line in _lines(file)]


def json_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSON Lines file, each with its place for messages. Raises: InputError as `text_lines`."""
    for number, line in _lines(file):
        place = f"{str(file)!r}, line {number}"
        yield place, as_row(_parsed(line, place), place)


def as_row(value: Any, place: str) -> dict[str, Any]:
    """A row. Raises: InputError if it is no object."""
    if not isinstance(value, dict):
        raise InputError(f"{place}: {type(value).__name__} instead of an object; write {{…}} with its fields.")
    return value


def text_of(row: dict[str, Any], names: tuple[str, ...], place: str, *, default: str | None = None) -> str:
    """The text under one of several names. Raises: InputError if it is missing, empty or no text."""
    name = next((name for name in names if row.get(name) is not None), None)
    if name is None:
        if default is not None:
            return default
        raise InputError(f"{place}: the field {' or '.join(map(repr, names))} is missing.")
    value = row[name]
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{place}: the field {name!r} is {value!r}; it must be text.")
    return value.strip()


def checked_prompt(prompt: str, place: str) -> str:
    """A prompt that a model could follow. Raises: InputError naming the place."""
    try:
        check_prompt(prompt)
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
    return prompt


def checked_id(name: str, place: str) -> str:
    """An id that may name files. Raises: InputError naming the place."""
    if not _ID.fullmatch(name):
        raise InputError(
            f"{place}: the id is {name!r}; it names files, so use at most 100 letters, digits, '.', '_' and '-'."
        )
    return name


def checked_picture(root: Path, path: str, place: str) -> Path:
    """A picture below a folder. Raises: InputError naming the place if it is not there, leaves it, or is none."""
    parts = Path(path.replace("\\", "/"))
    file = found_below(root, path)
    if parts.is_absolute() or ".." in parts.parts or not file.resolve().is_relative_to(root.resolve()):
        raise InputError(f"{place}: the picture {path!r} leaves the folder; give a path relative to it.")
    if file.suffix.lower() not in _SUFFIXES:
        raise InputError(f"{place}: {path!r} is no picture; give one of {', '.join(sorted(_SUFFIXES))}.")
    if not file.is_file():
        raise InputError(f"{place}: the picture {path!r} is not there; put it beside the list.")
    return file


def distinct(samples: Iterable[Sample], what: str) -> tuple[Sample, ...]:
    """The samples. Raises: InputError if two have one id, whatever the case, or there is none."""
    found = tuple(samples)
    if twice := _twice(sample.id.lower() for sample in found):
        raise InputError(f"{what} has the id {twice!r} twice; ids must differ.")
    if not found:
        raise InputError(f"{what} holds no sample; it is empty.")
    return found


def _lines(file: Path) -> list[tuple[int, bytes]]:
    try:
        lines = list(read_lines(file))
    except UnreadableFile as error:
        raise InputError(str(error)) from error
    if not lines:
        raise InputError(f"{str(file)!r} holds no line; it is empty.")
    return lines


def json_of(file: Path) -> Any:
    """What a JSON file holds. Raises: InputError if it is not there, or no JSON."""
    try:
        content = read_bytes(file)
    except UnreadableFile as error:
        raise InputError(str(error)) from error
    return _parsed(content, repr(str(file)))


def _parsed(text: bytes, place: str) -> Any:
    def refuse(reason: str) -> InputError:
        return InputError(f"{place} is no JSON: {reason.rstrip('.')}.")

    try:
        return json_values(text, error=InputError)
    except InputError as error:
        raise refuse(str(error)) from error


def _decoded(line: bytes, place: str) -> str:
    try:
        return line.decode("utf-8").removeprefix("\ufeff").strip()
    except UnicodeDecodeError as error:
        raise InputError(f"{place} is not UTF-8 (byte {error.start}); save the file as UTF-8.") from error


def _twice(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
