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

from alignvid.errors import InputError, OutputError
from alignvid.files import writable_folder, write_bytes

SCHEMA_VERSION = 1
_RUN, _ROWS, _VIEWS = "run.json", "pairs.jsonl", "views"

_REMEDY = "give the same again to go on, another --out to begin anew, or delete that folder"


@dataclass(frozen=True)
class PairRow:
    """What one pair showed."""

    id: str
    sha256: str
    """Of everything that the pair asks for."""
    foreground_share: float
    """Of the picture's pixels."""
    chance: float
    """Foreground ratio of a block that singles out nothing, for this picture."""
    ratios: list[float] | None
    """Foreground ratio by block, in the order of `blocks`; None if the picture has no foreground or nothing else."""
    blocks: list[list[Any]]
    """Stack and index of each block."""
    schema_version: int = SCHEMA_VERSION


class WorkFolder:
    """What was measured so far for one preset."""

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        """Begin in a new folder, or go on in one that was begun with an equal run.

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
                "command to go on."
            ) from error

    def save_view(self, id: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep the pictures of a pair. Raises: OutputError."""
        write_bytes(writable_folder(self.folder / _VIEWS) / f"{id}.safetensors", save(dict(arrays)))

    def views(self) -> dict[str, dict[str, np.ndarray]]:
        """The pictures that were kept, by pair in the order of the rows; damaged ones are left out."""
        found = {}
        for id in self.rows:
            try:
                found[id] = load_file(self.folder / _VIEWS / f"{id}.safetensors")
            except (OSError, SafetensorError):
                continue
        return found

    def _check_run(self, run: dict[str, Any]) -> None:
        file, run = self.folder / _RUN, json.loads(json.dumps({"schema_version": SCHEMA_VERSION, **run}))
        if not file.exists():
            write_bytes(file, (json.dumps(run, indent=2) + "\n").encode())
            return
        begun = _read_json(file)
        for name in sorted({*begun, *run}):
            if begun.get(name) != run.get(name):
                raise InputError(
                    f"{str(self.folder)!r} holds a calibration with other {name}: "
                    f"{_short(begun.get(name))} then, {_short(run.get(name))} now; {_REMEDY}."
                )

    def _read_rows(self) -> dict[str, PairRow]:
        """The finished pairs. A last line that was cut short by a crash is taken off the file."""
        file = self.folder / _ROWS
        data = file.read_bytes() if file.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        try:
            rows = [PairRow(**json.loads(line)) for line in whole.splitlines()]
        except (ValueError, TypeError) as error:
            raise InputError(f"{str(file)!r} is damaged ({error}); delete its folder to begin anew.") from error
        if whole != data:
            write_bytes(file, whole)
        return {row.id: row for row in rows}


def _line(row: PairRow) -> bytes:
    return (json.dumps(asdict(row), allow_nan=False) + "\n").encode()


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{str(file)!r} is damaged ({error}); delete its folder to begin anew.") from error


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
