"""A run in a thread of its own, seen from outside step by step, and ended between two of them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from typing import TypeVar

T = TypeVar("T")
Seen = TypeVar("Seen")


class Cancelled(Exception):
    """The user wants it no more."""


class Watched:
    """What a run reports and whether it must end: `report` is given to it."""

    def __init__(self) -> None:
        self._seen: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._wanted = threading.Event()
        self._is_raised = False

    def cancel(self) -> None:
        """End the run at its next report."""
        self._wanted.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether it must end."""
        return self._wanted.is_set()

    def report(self, seen: object) -> None:
        """Pass on what is seen. Raises: Cancelled, once: what unwinds then may report again."""
        if self.is_cancelled and not self._is_raised:
            self._is_raised = True
            raise Cancelled
        self._seen.put(seen)

    def run(self, work: Callable[[], T]) -> Generator[object, None, T]:
        """Do the work in a thread; gives what it reports, and returns its result.

        If the generator is closed before that, the work is cancelled, and the closing waits until it has ended.

        Raises: Cancelled, or what the work raises.
        """
        outcome: list[T] = []
        errors: list[BaseException] = []

        def work_and_end() -> None:
            try:
                outcome.append(work())
            except BaseException as error:  # of another thread: raised again in this one
                errors.append(error)
            self._seen.put(_END)

        thread = threading.Thread(target=work_and_end, name="alignvid run", daemon=True)
        thread.start()
        try:
            while (seen := self._seen.get()) is not _END:
                yield seen
        finally:
            if thread.is_alive():
                self.cancel()
                thread.join()
        if errors:
            raise errors[0]
        return outcome[0]


_END = object()
