"""The folder beside a preset that holds what was measured so far, so that nothing is measured twice.

run.json        what was measured with what; another run in the same folder is refused
pairs.jsonl     one row per finished pair
views/ID.*      pictures behind the first few rows
pictures/       drawn scenes
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from alignvid.errors import InputError, OutputError, UnreadableFile
from alignvid.fields import Share, json_bytes, json_values, read, read_as
from alignvid.files import check_file, is_there, read_json, read_lines, writable_folder, write_bytes

SCHEMA_VERSION = 1
_RUN, _ROWS, _VIEWS = "run.json", "pairs.jsonl", "views"

_REMEDY = "give the same again to resume it, another --out to begin anew, or delete that folder"


@dataclass(frozen=True)
class PairRow:
    """What one pair showed."""

    id: str
    sha256: str
    """Of everything that the pair asks for."""
    foreground_share: Share
    """Of the picture's pixels."""
    chance: float
    """Foreground ratio of a block that singles out nothing, for this picture."""
    ratios: list[float] | None
    """Foreground ratio by block, in the order of `blocks`; None if the picture has no foreground or nothing else."""
    blocks: list[list[str | int]]
    """Stack and index of each block."""
    schema_version: int = SCHEMA_VERSION


class WorkFolder:
    """What was measured so far for one preset."""

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        """Begin in a new folder, or resume one that was begun with an equal run.

        Raises: InputError if what it holds is of another run or damaged; OutputError if it cannot be written into.
        """
        self.folder = writable_folder(folder)
        self._check_run(dict(run))
        self.rows = self._read_rows()

    def append(self, row: PairRow) -> None:
        """Keep the row of a pair; once this returns, it stays. Raises: OutputError."""
        self.rows[row.id] = row
        try:
            with (self.folder / _ROWS).open("ab") as file:
                file.write(_line(row))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(
                f"Cannot write into {str(self.folder)!r}: {error.strerror}; free some space, then give the same "
                "command again."
            ) from error

    def save_view(self, id: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep the pictures of a pair. Raises: OutputError."""
        write_bytes(writable_folder(self.folder / _VIEWS) / f"{id}.safetensors", save(dict(arrays)))

    def views(self) -> dict[str, dict[str, np.ndarray]]:
        """The pictures that were kept, by pair in the order of the rows; damaged ones are left out."""
        found = {}
        for id in self.rows:
            file = self.folder / _VIEWS / f"{id}.safetensors"
            try:
                check_file(file)
                found[id] = load_file(file)
            except (UnreadableFile, OSError, SafetensorError):
                continue
        return found

    def _check_run(self, run: dict[str, Any]) -> None:
        file, run = self.folder / _RUN, json.loads(json.dumps({"schema_version": SCHEMA_VERSION, **run}))
        if not is_there(file):
            write_bytes(file, json_bytes(run, indent=2))
            return
        begun = self._read_run(file)
        for name in sorted({*begun, *run}):
            if begun.get(name) != run.get(name):
                raise InputError(
                    f"{str(self.folder)!r} holds a calibration with other {name}: "
                    f"{_short(begun.get(name))} then, {_short(run.get(name))} now; {_REMEDY}."
                )

    def _read_rows(self) -> dict[str, PairRow]:
        """The finished pairs. A last line that was cut short by a crash is taken off the file."""
        file = self.folder / _ROWS
        rows: list[PairRow] = []
        is_ended = True
        for number, line in read_lines(file) if is_there(file) else ():
            is_ended = line.endswith(b"\n")
            try:
                rows.append(_row(line))
            except InputError as error:
                if is_ended:
                    raise _damaged(file, f"line {number}: {error}") from error
        if not is_ended:
            write_bytes(file, b"".join(map(_line, rows)))
        return {row.id: row for row in rows}

    def _read_run(self, file: Path) -> dict[str, Any]:
        try:
            return read_as(dict[str, Any], read_json(file), what="it", error=InputError)
        except InputError as error:
            raise _damaged(file, str(error)) from error


def _line(row: PairRow) -> bytes:
    return json_bytes(asdict(row))


def _row(line: bytes) -> PairRow:
    return read(PairRow, json_values(line, error=InputError), what="it", error=InputError)


def _damaged(file: Path, reason: str) -> InputError:
    return InputError(f"{str(file)!r} is damaged ({reason.rstrip('.')}); delete its folder to begin anew.")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
