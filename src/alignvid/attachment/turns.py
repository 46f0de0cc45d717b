"""Whose turn it is: forwards of one transformer in several threads, one at a time where that must be."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Turns:
    """Lets a forward begin: beside those of other threads, or after them.

    A thread may begin another forward within its own. What must be asked is asked only where another thread is at it,
    so that a thread by itself never waits, nor looks.
    """

    def __init__(self) -> None:
        """No forward runs."""
        self._lock = threading.Lock()
        self._left = threading.Condition(self._lock)
        self._begun: dict[int, int] = {}  # forwards that have begun and not ended, by thread
        self._waiting = 0

    def begin(self, must_be_alone: Callable[[], bool]) -> None:
        """Wait until a forward of this thread may run. `must_be_alone`: asked as long as other threads run one."""
        thread = threading.get_ident()
        with self._lock:
            begun = self._begun
            while begun and (len(begun) > 1 or thread not in begun) and must_be_alone():
                self._waiting += 1
                self._left.wait()
                self._waiting -= 1
            begun[thread] = begun.get(thread, 0) + 1

    def end(self) -> None:
        """Let the next one begin, if this was the last forward of this thread."""
        thread = threading.get_ident()
        with self._lock:
            count = self._begun.pop(thread) - 1
            if count:
                self._begun[thread] = count
            elif self._waiting:
                self._left.notify_all()
