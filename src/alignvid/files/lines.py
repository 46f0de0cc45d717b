"""JSON Lines that only grow: a row is appended whole and never rewritten.

A process that was killed in the middle of a row leaves a part of it as the last line: reading passes over it, appending
removes it first. A last line that is whole is a row, with a line break or without.
"""

import os
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from alignvid.errors import InputError, OutputError
from alignvid.fields import json_values
from alignvid.files.reading import is_there, opened, read_lines


def json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """What each line holds, with its place for messages; a missing file has none, a torn last line is passed over.

    Raises: InputError naming file and line if any other line is no JSON.
    """
    if not is_there(path):
        return
    for number, line in read_lines(path):
        place = f"{str(path)!r}, line {number}"
        try:
            values = json_values(line, error=InputError, mends_text=True)
        except InputError as error:
            if not line.endswith(b"\n"):
                return
            raise InputError(f"{place} is no JSON ({error}); mend or remove it.") from error
        yield place, values


def append_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Append lines, each as one write, and flush them to the disk; a torn last line is removed first.

    One process appends to a file at a time.

    Raises: OutputError if they cannot be written; the lines before them stay.
    """
    try:
        _end_last_line(path)
        with path.open("ab", buffering=0) as file:
            for line in lines:
                _write_all(file, line)
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(
            f"Cannot append to {str(path)!r}: {error.strerror}; free some space and type the same line again, "
            "what was there is kept."
        ) from error


def _write_all(file: FileIO, line: bytes) -> None:
    """A file that is almost full takes a part of a line, and refuses the rest."""
    rest = memoryview(line)
    while rest:
        rest = rest[file.write(rest) :]


def _end_last_line(path: Path) -> None:
    """Make the file end in a line break: cut off a part of a row that a killed process left, or end a whole row."""
    if not is_there(path) or _ends_whole(path):
        return
    with path.open("rb+") as file:
        content = file.read()
        begin = content.rfind(b"\n") + 1
        try:
            json_values(content[begin:], error=InputError)
        except InputError:
            file.truncate(begin)
        else:
            file.write(b"\n")


def _ends_whole(path: Path) -> bool:
    """Whether the file is empty or ends in a line break; only its last byte is read."""
    with opened(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        return file.read() in (b"", b"\n")
