"""Prompts alone, for text-to-video and text-to-image models.

    .txt      a prompt on each line; a folder of them is one data set (VBench's prompts_per_dimension)
    .jsonl    {"prompt": …} on each line: GenEval's {"tag": …, "include": […], "prompt": …}, or with an "id" and
              OmitI2V's "questions"
    .json     VBench's list of {"prompt_en": …, "dimension": […]}, or one of texts or objects as above

Of VBench's and GenEval's objects, what is not named here is left alone: it is for their own programs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alignvid.bench.data.dataset import DataSet, ImageFile
from alignvid.bench.data.listed import (
    as_row,
    checked_id,
    checked_prompt,
    distinct,
    followed_question,
    json_of,
    json_rows,
    own_questions,
    text_lines,
    text_of,
)
from alignvid.bench.data.samples import Sample
from alignvid.errors import InputError
from alignvid.files import user_path

NAMES = {"t2v": "video", "t2i": "picture"}
"""How such data is named before the colon, and what is made of it."""
_PROMPT = ("prompt", "prompt_en")


def prompt_list(where: str, kind: str) -> DataSet:
    """The prompts of a file, or of the .txt files of a folder; `kind` as in `NAMES`.

    Raises: InputError naming file, line and field of what cannot be read.
    """
    path = user_path(where)
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{str(path)!r} has no .txt file; give a folder with some, or a .txt, .jsonl or .json file.")
    rows = (row for file in files for row in _rows(file))
    samples = distinct((_sample(row, place, name, NAMES[kind]) for place, name, row in rows), repr(str(path)))
    return DataSet(path.resolve().stem, samples, _no_image)


def _rows(file: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each row with its place, and an id for those that have none."""
    for number, (place, row) in enumerate(_rows_in(file), start=1):
        yield place, f"{file.stem}-{number:04d}", row


def _rows_in(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if file.suffix.lower() == ".jsonl":
        yield from json_rows(file)
    elif file.suffix.lower() == ".json":
        values = json_of(file)
        if not isinstance(values, list):
            raise InputError(f"{str(file)!r} holds {type(values).__name__} instead of a list of prompts.")
        for number, value in enumerate(values, start=1):
            place = f"{str(file)!r}, entry {number}"
            yield place, {"prompt": value} if isinstance(value, str) else as_row(value, place)
    else:
        for number, line in text_lines(file):
            yield f"{str(file)!r}, line {number}", {"prompt": line, "dimension": [file.stem]}


def _sample(row: dict[str, Any], place: str, name: str, kind: str) -> Sample:
    prompt = checked_prompt(text_of(row, _PROMPT, place), place)
    groups = _groups(row, place)
    questions = row.get("questions")
    return Sample(
        id=checked_id(text_of(row, ("id",), place, default=name), place),
        image_path=None,
        prompt=prompt,
        main_category=groups[0] if groups else kind,
        sub_category=", ".join(groups[1:]),
        domain="",
        expected_change=prompt,
        resolution=None,
        questions=followed_question(prompt, kind) if questions is None else own_questions(questions, place),
    )


def _groups(row: dict[str, Any], place: str) -> list[str]:
    """VBench's dimensions, or GenEval's tag."""
    found = row.get("dimension", row.get("tag", []))
    groups = [found] if isinstance(found, str) else found
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise InputError(f"{place}: the field 'dimension' is {found!r}; it must be a list of texts.")
    return groups


def _no_image(sample: Sample) -> ImageFile:
    raise InputError(f"The sample {sample.id!r} is a prompt alone and has no picture.")
