"""I2V-CompBench, version 2: prompts by dimension, each with a first frame.

    prompts/DIM.txt              a prompt on each line, in the order of the ids 0001, 0002, …
    meta_data/DIM.json           a list with an object for each, whose `id` is that number
    first_frames/DIM/0001.png    and 0001_16x9.png, which its authors recommend

in a folder, or in its folder "v2". As its card describes it (CC BY-NC 4.0; YiningZ2002/I2V-CompBench); of the metadata
only `id` is read, for the card was at hand and the files were not. It is scored by its own programs; here each sample
has one question.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from alignvid.bench.data.dataset import DataSet, ImageFile
from alignvid.bench.data.hub import downloaded
from alignvid.bench.data.listed import as_row, checked_prompt, distinct, followed_question, json_of, text_lines
from alignvid.bench.data.samples import Sample
from alignvid.errors import InputError
from alignvid.files import is_there, read_bytes, user_path

_FRAMES, _META, _PROMPTS = "first_frames", "meta_data", "prompts"
_WIDE = "_16x9"
_PATTERNS = [f"*{folder}/*" for folder in (_FRAMES, _META, _PROMPTS)]


def compbench(where: str) -> DataSet:
    """The data set of a folder, or of the Hub ("owner/name", "owner/name@revision").

    Raises: InputError naming file, line and field of what cannot be read.
    """
    if where.strip() and is_there(folder := user_path(where)):
        return _read(folder, folder.resolve().name, None)
    folder = downloaded(where, _PATTERNS)
    return _read(folder, where.partition("@")[0], folder.name)


def _read(folder: Path, name: str, revision: str | None) -> DataSet:
    root = next((path for path in (folder, folder / "v2") if (path / _PROMPTS).is_dir()), None)
    if root is None:
        raise InputError(
            f"{str(folder)!r} has no folder {_PROMPTS!r}, nor has its 'v2'; give the folder of I2V-CompBench that "
            f"holds {_PROMPTS}, {_META} and {_FRAMES}."
        )
    lists = sorted((root / _PROMPTS).glob("*.txt"))
    if not lists:
        raise InputError(f"{str(root / _PROMPTS)!r} has no list of prompts; it needs a DIMENSION.txt.")
    samples = distinct((sample for file in lists for sample in _dimension(root, file)), repr(str(root)))
    return DataSet(name, samples, lambda sample: _image_of(root, sample), revision)


def _dimension(root: Path, file: Path) -> list[Sample]:
    dimension, lines = file.stem, text_lines(file)
    _check_metadata(root / _META / f"{dimension}.json", len(lines))
    samples = []
    for index, (number, line) in enumerate(lines, start=1):
        place, picture = f"{str(file)!r}, line {number}", _first_frame(root, dimension, index)
        prompt = checked_prompt(line, place)
        samples.append(
            Sample(
                id=f"{dimension}-{index:04d}",
                image_path=picture.relative_to(root).as_posix(),
                prompt=prompt,
                main_category=dimension,
                sub_category="",
                domain="",
                expected_change=prompt,
                resolution=size_of(picture),
                questions=followed_question(prompt, "video"),
            )
        )
    return samples


def _check_metadata(file: Path, count: int) -> None:
    """Whether the ids are those of the lines: else prompts and frames would be mixed up."""
    rows: Any = json_of(file)
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{str(file)!r} holds no list of objects.")
    ids = [str(as_row(row, f"{str(file)!r}, entry {index}").get("id")) for index, row in enumerate(rows, start=1)]
    if twice := next((name for name in ids if ids.count(name) > 1), None):
        raise InputError(f"{str(file)!r} has the id {twice!r} twice; ids must differ.")
    wanted = [f"{index:04d}" for index in range(1, count + 1)]
    if [name.zfill(4) for name in ids] != wanted:
        raise InputError(
            f"{str(file)!r} has {len(ids)} ids and {count} prompts stand in {_PROMPTS}/{file.stem}.txt, or the ids are "
            f"not 0001 to {count:04d} in order; fetch the data set again."
        )


def _first_frame(root: Path, dimension: str, index: int) -> Path:
    names = (f"{index:04d}{_WIDE}.png", f"{index:04d}.png")
    folder = root / _FRAMES / dimension
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise InputError(f"{str(folder)!r} has neither {' nor '.join(names)}; fetch it again.")
    return found


def size_of(picture: Path) -> tuple[int, int]:
    """Width and height, from the file's head. Raises: InputError if it is no picture, or a broken one."""
    try:
        with Image.open(picture) as opened:
            opened.verify()
            return opened.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"The picture {str(picture)!r} is broken ({error}); put a whole one in its place.") from error


def _image_of(root: Path, sample: Sample) -> ImageFile:
    path = root / str(sample.image_path)
    return ImageFile(path.suffix.lower(), read_bytes(path))
