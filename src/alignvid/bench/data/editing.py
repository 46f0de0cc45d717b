"""Picture editing: a picture and an instruction, in three forms.

    JSON Lines    {"id": …, "image": "a.png", "prompt": …}, perhaps with "category" and OmitI2V's "questions"
    GEdit-Bench   {"key": …, "input_image": "a.png", "instruction": …, "instruction_language": …, "task_type": …}
    ImgEdit       {"KEY": {"id": "animal/a.jpg", "prompt": …, "edit_type": …}, …}, its basic_edit.json

Pictures lie beside the list. ImgEdit's list was at hand, its pictures were not; of GEdit-Bench the names of its columns
were: it is published as a table, of which docs/benchmark.md says how to write such lines. Their scores are marks of a
model; here each sample has one question.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alignvid.bench.data.compbench import size_of
from alignvid.bench.data.dataset import DataSet, ImageFile
from alignvid.bench.data.listed import (
    as_row,
    checked_id,
    checked_picture,
    checked_prompt,
    distinct,
    followed_question,
    json_of,
    json_rows,
    own_questions,
    text_of,
)
from alignvid.bench.data.samples import Sample
from alignvid.errors import InputError
from alignvid.files import read_bytes, user_path

_LISTS = ("metadata.jsonl", "basic_edit.json")
_ID, _PROMPT, _IMAGE = ("id", "key"), ("prompt", "instruction"), ("image", "input_image", "file_name")
_GROUP, _LANGUAGE = ("category", "edit_type", "task_type"), "instruction_language"


def editing(where: str) -> DataSet:
    """The pictures and instructions of a list, or of a folder with metadata.jsonl or basic_edit.json.

    Raises: InputError naming file, row and field of what cannot be read.
    """
    file = _list_in(user_path(where))
    samples = distinct((_sample(row, place, file.parent) for place, row in _rows(file)), repr(str(file)))
    return DataSet(file.parent.resolve().name, samples, lambda sample: _image_of(file.parent, sample))


def _list_in(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = next((path / name for name in _LISTS if (path / name).is_file()), None)
    if found is None:
        raise InputError(f"{str(path)!r} has neither {' nor '.join(_LISTS)}; give the list itself, a .jsonl or .json.")
    return found


def _rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if file.suffix.lower() != ".json":
        yield from json_rows(file)
        return
    values = json_of(file)
    if isinstance(values, list):
        for number, value in enumerate(values, start=1):
            place = f"{str(file)!r}, entry {number}"
            yield place, as_row(value, place)
    elif isinstance(values, dict):
        for key, value in values.items():  # ImgEdit's: what it calls the id is the picture
            place = f"{str(file)!r}, {key!r}"
            row = as_row(value, place)
            yield place, {**row, "id": key, "image": text_of(row, ("image", "id"), place)}
    else:
        raise InputError(f"{str(file)!r} holds {type(values).__name__} instead of a list or an object of rows.")


def _sample(row: dict[str, Any], place: str, root: Path) -> Sample:
    name, language = text_of(row, _ID, place), text_of(row, (_LANGUAGE,), place, default="")
    name = checked_id(f"{name}-{language}" if language else name, place)
    prompt = checked_prompt(text_of(row, _PROMPT, place), place)
    path = text_of(row, _IMAGE, place)
    picture = checked_picture(root, path, place)
    questions = row.get("questions")
    return Sample(
        id=name,
        image_path=path,
        prompt=prompt,
        main_category=text_of(row, _GROUP, place, default="edit"),
        sub_category="",
        domain=language,
        expected_change=prompt,
        resolution=size_of(picture),
        questions=followed_question(prompt, "edit") if questions is None else own_questions(questions, place),
    )


def _image_of(root: Path, sample: Sample) -> ImageFile:
    path = checked_picture(root, str(sample.image_path), f"The sample {sample.id!r}")
    return ImageFile(path.suffix.lower(), read_bytes(path))
