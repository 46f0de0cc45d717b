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

    def __init__(self, run: Path, name: str = ATTEMPTS) -> None:
        """Of a run's folder, in a folder of this name in it."""
        self.folder = run / name

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


class Ledger:
    """Which jobs run now. A job in which the process died too often is set aside until the block ends well.

    A context manager: an interrupt or an error in the block is no crash of the jobs that were running.
    """

    def __init__(self, attempts: Attempts) -> None:
        """Nothing runs yet."""
        self._attempts = attempts
        self._running: set[str] = set()
        self._set_aside: set[str] = set()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        for job in [*self._running, *(() if kind else self._set_aside)]:
            self._attempts.end(job)  # of those set aside only now: the next run, and not a resumed one, tries them

    def begin(self, job: str) -> str | None:
        """Note that a job begins; or say why it is set aside."""
        if (crashes := self._attempts.count(job)) >= MAX_CRASHES:
            self._set_aside.add(job)
            return f"The process died {crashes} times in this job; it was set aside for this run."
        self._attempts.begin(job)
        self._running.add(job)
        return None

    def end(self, job: str) -> None:
        """Note that a job ended, well or not."""
        self._attempts.end(job)
        self._running.discard(job)
