"""The runs on disk, newest first: a folder for each, as `alignvid generate --compare` writes it."""

from __future__ import annotations

import re
import secrets
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from alignvid.errors import InputError
from alignvid.files import sha256_of_file
from alignvid.report.page import PAGE_FILE

if TYPE_CHECKING:
    from alignvid.generate.record import Record

_NAME = re.compile(r"[0-9]{8}-[0-9]{6}-(?:[0-9a-f]{4}){1,2}")
SHOWN = 24
"""Runs in the history; older ones stay on disk."""


class Run(NamedTuple):
    """A finished run, or a loop of several attempts."""

    id: str
    """Name of its folder."""
    folder: Path
    """Where its record lies; of a loop, that of the best attempt."""
    record: Record
    attempts: int = 0
    """Of a loop; 0 for a single run."""

    @property
    def place(self) -> str:
        """Where its files are on the page's server."""
        return f"runs/{self.id}" if self.folder.name == self.id else f"runs/{self.id}/{self.folder.name}"

    @property
    def page(self) -> str:
        """Where the page that plays it is."""
        return f"runs/{self.id}/{PAGE_FILE}"


def new_id() -> str:
    """A name that sorts by time and that no other run has."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def is_id(name: str) -> bool:
    """Whether a run may be called so: nothing else reaches the disk."""
    return _NAME.fullmatch(name) is not None


def folder_of(root: Path, id: str) -> Path:
    """The folder of a run. Raises: InputError if there is no such run."""
    folder = root / id if is_id(id) else None
    if folder is None or not folder.is_dir():
        raise InputError(f"There is no run {id!r} any more; choose one from the history.")
    return folder


def run_named(root: Path, id: str) -> Run:
    """A run. Raises: InputError if it is not there, or its record cannot be read."""
    from alignvid.generate.record import read_record

    folder = folder_of(root, id)
    attempts = [attempt for attempt in folder.glob("attempt-*") if (attempt / "record.json").is_file()]
    if not attempts:
        return Run(id, folder, read_record(folder))
    best = _best(folder, attempts)
    return Run(id, best, read_record(best), len(attempts))


def newest_runs(root: Path, count: int = SHOWN) -> list[Run]:
    """The last finished runs; a folder without a record that can be read is none."""
    found: list[Run] = []
    for id in sorted(filter(is_id, (path.name for path in root.iterdir())), reverse=True):
        if len(found) == count:
            break
        try:
            found.append(run_named(root, id))
        except InputError:
            continue
    return found


def _best(folder: Path, attempts: list[Path]) -> Path:
    """The attempt whose video the loop kept as the best; the last one where it was ended before that."""
    kept = next((sha256_of_file(file) for file in folder.glob("best.*")), None)
    in_order = sorted(attempts, key=lambda attempt: int(attempt.name.removeprefix("attempt-")))
    same = (
        attempt
        for attempt in in_order
        if kept and kept in (sha256_of_file(file) for file in attempt.glob("alignvid.*"))
    )
    return next(same, in_order[-1])
