"""Where tasks are run: in this process, one after the other, or on Ray's workers (`alignvid.bench.runs.ray_pool`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from alignvid.bench.runs.jobs import Task
from alignvid.bench.runs.tasks import Unit
from alignvid.bench.runs.worker import Made, Worker


class Begun(NamedTuple):
    """A task that may run now, with the files of its images."""

    task: Task
    images: tuple[bytes | None, ...]
    """None where a sample has none."""


Begin = Callable[[Task], Begun | None]
"""Called before each task: notes that its jobs begin. None if none of them may run."""


@runtime_checkable
class Pool(Protocol):
    """Runs units of tasks."""

    def results(self, units: Sequence[Unit], begin: Begin) -> Iterator[list[Made]]:
        """What became of each task, as soon as it is known; the next task of a worker waits until it is taken."""
        ...


@dataclass(frozen=True)
class LocalPool:
    """One worker, in this process; it is made when there is something to do."""

    make_worker: Callable[[], Worker]

    def results(self, units: Sequence[Unit], begin: Begin) -> Iterator[list[Made]]:
        """See `Pool`."""
        worker: Worker | None = None
        for unit in units:
            for task in unit:
                if (begun := begin(task)) is not None:
                    worker = worker or self.make_worker()
                    yield worker.run(begun.task, begun.images)
