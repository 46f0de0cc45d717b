"""OmitI2V, and any data set in its schema: a meta.json beside the images, in a folder or on the Hugging Face Hub.

A malformed row is left out, with its number, id and fields in the reason. A row whose image is missing, damaged or no
file is kept. The run counts both as unusable. What is no list of rows is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from alignvid.bench.data.dataset import DataSet, ImageFile, Unusable
from alignvid.bench.data.hub import downloaded
from alignvid.bench.data.samples import MAIN_CATEGORIES, Answer, Question, Sample
from alignvid.errors import AlignvidError, InputError, UnreadableFile
from alignvid.fields import Positive, read_as
from alignvid.files import found_below, read_bytes, read_json
from alignvid.generate.prompts import check_prompt

REPOSITORY = "AIPeanutman/OmitI2V"
META_FILE = "meta.json"
_IMAGES = ("*.jpg", "*.jpeg", "*.png", "*.webp", "*.JPG", "*.JPEG", "*.PNG")
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ANSWERS: dict[str, Answer] = {"yes": "yes", "no": "no"}

_NEEDED = ("id", "image-path", "prompt", "main-category", "resolution", "questions")
_NEEDED_OF_QUESTIONS = ("id", "question", "expected_answer", "category")
_SHOWN_ROWS = 3

Fail = Callable[[str | Sequence[str], str], InputError]
"""An error about a field, or some fields, of the row at hand."""


def from_folder(path: Path) -> DataSet:
    """The data set of a folder that holds a meta.json, or of such a file under another name.

    Raises: InputError naming row and field if no row can be read.
    """
    meta = path / META_FILE if path.is_dir() else path
    return _read(meta, name=meta.parent.resolve().name, allowed=meta.parent, revision=None)


def from_hub(name: str) -> DataSet:
    """A data set of the Hub, "owner/name" or "owner/name@revision"; downloaded unless it was before.

    Raises: InputError if it cannot be fetched.
    """
    folder = downloaded(name, [META_FILE, *(pattern for image in _IMAGES for pattern in (image, f"*/{image}"))])
    cache = folder.parent.parent  # files of a snapshot are links into the blobs beside it
    return _read(folder / META_FILE, name=name.partition("@")[0], allowed=cache, revision=folder.name)


def _read(meta: Path, *, name: str, allowed: Path, revision: str | None) -> DataSet:
    samples: dict[str, tuple[int, Sample]] = {}
    dropped: list[Unusable] = []
    for number, row in enumerate(_rows(meta), start=1):
        try:
            sample = _sample(row, _failure(meta, number, row), meta.parent, allowed)
            first, _ = samples.setdefault(sample.id.lower(), (number, sample))
            if first != number:
                raise InputError(
                    f"{str(meta)!r}, row {number}: the id {sample.id!r} is that of row {first}; ids must differ."
                )
        except InputError as error:
            dropped.append(Unusable(f"row {number}", str(error)))
    if not samples:
        raise InputError(" ".join(row.reason for row in dropped[:_SHOWN_ROWS]))
    read = tuple(sample for _, sample in samples.values())
    return DataSet(name, read, lambda sample: _image_of(sample, meta.parent), revision, dropped=tuple(dropped))


def _rows(meta: Path) -> list[Any]:
    try:
        rows = read_json(meta)
    except UnreadableFile as error:
        raise InputError(f"{str(error).rstrip('.')}; a data set needs a {META_FILE}.") from error
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{str(meta)!r} holds no list of samples; write [{{…}}, …] with id, image-path, prompt, ….")
    return rows


def _failure(meta: Path, number: int, row: Any) -> Fail:
    named = f" (id {row['id']!r})" if isinstance(row, dict) and isinstance(row.get("id"), str) else ""

    def fail(fields: str | Sequence[str], problem: str) -> InputError:
        names = [fields] if isinstance(fields, str) else fields
        which = f"the field{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}"
        return InputError(f"{str(meta)!r}, row {number}{named}: {which} {problem}.")

    if not isinstance(row, dict):
        raise InputError(f"{str(meta)!r}, row {number}: {type(row).__name__} instead of an object.")
    _refuse_missing(row, fail)
    return fail


def _refuse_missing(row: Mapping[str, Any], fail: Fail) -> None:
    """Name all fields that a row and its questions lack, at once."""
    missing = [name for name in _NEEDED if _entry(row, name) is None]
    for index, question in enumerate(values if isinstance(values := row.get("questions"), list) else ()):
        needed = _NEEDED_OF_QUESTIONS if isinstance(question, dict) else ()
        missing += [f"questions[{index}].{name}" for name in needed if _entry(question, name) is None]
    if missing:
        raise fail(missing, "is missing" if len(missing) == 1 else "are missing")


def _entry(row: Mapping[str, Any], name: str) -> Any:
    """What a row has under a name, which may be written with underscores."""
    return row.get(name, row.get(name.replace("-", "_")))


def _sample(row: Mapping[str, Any], fail: Fail, root: Path, allowed: Path) -> Sample:
    name, image_path = _text(row, "id", fail), _text(row, "image-path", fail)
    if not _ID.fullmatch(name):
        raise fail("id", f"is {name!r}; it names files, so use at most 100 letters, digits, '.', '_' and '-'")
    _check_path(image_path, fail, root, allowed)
    category = _text(row, "main-category", fail).lower()
    if category not in MAIN_CATEGORIES:
        raise fail("main-category", f"is {category!r}; choose one of {', '.join(MAIN_CATEGORIES)}")
    return Sample(
        id=name,
        image_path=image_path,
        prompt=_prompt(row, fail),
        main_category=category,
        sub_category=_text(row, "sub-category", fail, default=""),
        domain=_text(row, "domain", fail, default=""),
        expected_change=_text(row, "expected-change", fail, default=""),
        resolution=_resolution(row, fail),
        questions=_questions(row, fail),
    )


def _text(row: Mapping[str, Any], field: str, fail: Fail, *, default: str | None = None) -> str:
    """A text of a row; one with a default may be missing or empty."""
    value = default if (entry := _entry(row, field)) is None else entry
    if not isinstance(value, str):
        raise fail(field, f"is {value!r}; it must be text")
    if default is None and not value.strip():
        raise fail(field, "is empty")
    return value.strip()


def _prompt(row: Mapping[str, Any], fail: Fail) -> str:
    prompt = _text(row, "prompt", fail)
    try:
        check_prompt(prompt)
    except AlignvidError as error:
        raise fail("prompt", f"cannot be used: {str(error).rstrip('.')}") from error
    return prompt


def _resolution(row: Mapping[str, Any], fail: Fail) -> tuple[int, int]:
    value = row.get("resolution")
    try:
        return read_as(tuple[Positive, Positive], value, what="It", error=InputError)
    except InputError as error:
        raise fail("resolution", f"is {value!r}; it must be [width, height] in pixels") from error


def _questions(row: Mapping[str, Any], fail: Fail) -> tuple[Question, ...]:
    values = row.get("questions")
    if not isinstance(values, list) or not values:
        raise fail("questions", "holds no question; write a list with at least one")
    questions = tuple(_question(value, f"questions[{index}]", fail) for index, value in enumerate(values))
    names = [question.id for question in questions]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise fail("questions", f"has the id {twice[0]!r} twice")
    return questions


def _question(value: Any, field: str, fail: Fail) -> Question:
    if not isinstance(value, dict):
        raise fail(field, f"is {value!r}; write an object with id, question, expected_answer and category")

    def fail_within(name: str | Sequence[str], problem: str) -> InputError:
        return fail(f"{field}.{name}", problem)

    answer = _text(value, "expected_answer", fail_within).lower()
    if answer not in _ANSWERS:
        raise fail_within("expected_answer", f"is {answer!r}; it must be 'yes' or 'no'")
    return Question(
        id=_text(value, "id", fail_within),
        question=_text(value, "question", fail_within),
        expected_answer=_ANSWERS[answer],
        category=_text(value, "category", fail_within),
    )


def _check_path(image_path: str, fail: Fail, root: Path, allowed: Path) -> None:
    """Refuse a path that leaves the data set: absolute, through "..", or through a link."""
    parts = PurePosixPath(image_path.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in image_path:
        raise fail("image-path", f"is {image_path!r}, which leaves the data set; give a path relative to its folder")
    try:
        found = found_below(root, image_path).resolve()
    except (OSError, ValueError, RuntimeError):  # no path can be so, or its links run in a circle: it has no image
        return
    if not found.is_relative_to(allowed.resolve()):
        raise fail(
            "image-path", f"is {image_path!r}, a link that leads out of the data set; put the image itself there"
        )


def _image_of(sample: Sample, root: Path) -> ImageFile:
    if sample.image_path is None:
        raise InputError(f"sample {sample.id!r} names no image.")
    path = found_below(root, sample.image_path)
    try:
        content = read_bytes(path)
    except UnreadableFile as error:
        raise InputError(f"image {sample.image_path!r} cannot be read: {error.reason}.") from error
    suffix = path.suffix.lower()
    return ImageFile(suffix if suffix in _SUFFIXES else ".img", content)
