"""Which jobs were begun and not ended: what a process that dies leaves behind, so that a fatal job is found."""

from __future__ import annotations

from pathlib import Path

from alignvid.errors import OutputError
from alignvid.files import is_foreign

ATTEMPTS = "attempts"
MAX_CRASHES = 3
"""A job during which the process died so often is set aside."""


class Attempts:
    """One small file per job that is running, or that was running when its process died; a byte for each time."""

    def __init__(self, run: Path) -> None:
        """Of a run's folder."""
        self.folder = run / ATTEMPTS

    def begin(self, job: str) -> None:
        """Count one more."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / job).open("ab") as file:
                file.write(b".")
        except OSError as error:
            raise OutputError(f"Cannot write into {str(self.folder)!r}: {error.strerror}; free some space.") from error

    def end(self, job: str) -> None:
        """Forget the job: it ended, or is set aside."""
        (self.folder / job).unlink(missing_ok=True)

    def count(self, job: str) -> int:
        """How often the job was begun without an end."""
        try:
            return (self.folder / job).stat().st_size
        except FileNotFoundError:
            return 0

    def all(self) -> set[str]:
        """Every job that was begun without an end."""
        if not self.folder.is_dir():
            return set()
        return {file.name for file in self.folder.iterdir() if not is_foreign(file)}
