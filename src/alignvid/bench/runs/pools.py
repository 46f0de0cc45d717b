"""Where tasks are run: in this process, one after the other, or on Ray's workers (`alignvid.bench.runs.ray_pool`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable


@runtime_checkable
class Work(Protocol):
    """What a worker gets at a time: a task of a benchmark, or a job of a list."""

    def alone(self) -> Sequence[Work]:
        """Its parts, to be tried one by one after a worker has died of it."""
        ...


@runtime_checkable
class AnyWorker(Protocol):
    """Does work, and says what became of it: one result per part."""

    def run(self, task: Any, images: Sequence[Any]) -> list[Any]:
        """`images` are the files of the reference images; None where a sample has none."""
        ...


class Begun(NamedTuple):
    """Work that may run now, with the files of its images."""

    task: Work
    images: tuple[bytes | None, ...]
    """None where a sample has none."""


Begin = Callable[[Any], Begun | None]
"""Called before each piece of work: notes that its jobs begin. None if none of them may run."""


@runtime_checkable
class Pool(Protocol):
    """Runs units of work: each unit on one worker, in its order."""

    def results(self, units: Sequence[Sequence[Work]], begin: Begin) -> Iterator[list[Any]]:
        """What became of each task, as soon as it is known; the next task of a worker waits until it is taken."""
        ...


@dataclass(frozen=True)
class LocalPool:
    """One worker, in this process; it is made when there is something to do."""

    make_worker: Callable[[], AnyWorker]

    def results(self, units: Sequence[Sequence[Work]], begin: Begin) -> Iterator[list[Any]]:
        """See `Pool`."""
        worker: AnyWorker | None = None
        for unit in units:
            for task in unit:
                if (begun := begin(task)) is not None:
                    worker = worker or self.make_worker()
                    yield worker.run(begun.task, begun.images)
