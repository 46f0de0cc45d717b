"""Tasks on Ray's workers: on this machine, or on a cluster. Workers may share a GPU, and a dead one is replaced.

A worker has one task at a time and gets the next one when the driver has written the videos of the last: whatever is
killed, driver or worker, each worker loses the task at hand and nothing else. Workers need no common file system:
images go out and videos come back with the tasks.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from alignvid.bench.runs.attempts import MAX_CRASHES
from alignvid.bench.runs.pools import AnyWorker, Begin, Work
from alignvid.errors import AlignvidError, InputError, MissingExtra, pass_on_interrupt

LOCAL = "local"
_STARTS = 3
_PATIENCE = {
    "RAY_USAGE_STATS_ENABLED": "0",  # it would call home
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else it warns of a change to come
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_health_check_failure_threshold": "30",
}
"""For Ray's processes: a machine whose cores all load models may be silent for longer than Ray expects."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RayPool:
    """A number of workers, each in a process of its own."""

    make_worker: Callable[[], AnyWorker]
    """Called in each worker's process."""
    address: str = LOCAL
    """"local" starts Ray on this machine; else a cluster's address, such as "auto" or "ray://head:10001"."""
    workers: int = 1
    gpus_per_worker: float = 0.0
    """May be a fraction: 0.5 puts two workers on a GPU. Ray does not divide its memory."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise InputError(f"{self.workers} workers can do nothing; choose 1 or more.")
        if self.gpus_per_worker < 0 or (self.gpus_per_worker > 1 and self.gpus_per_worker % 1):
            raise InputError(f"{self.gpus_per_worker} GPUs per worker cannot be; choose a fraction of 1, or 1, 2, ….")

    def results(self, units: Sequence[Sequence[Work]], begin: Begin) -> Iterator[list[Any]]:
        """See `alignvid.bench.runs.pools.Pool`."""
        if not units:
            return
        ray = _connected(self.address, self.workers)
        try:
            self._check_gpus(ray)
            yield from self._results(ray, deque(units), begin)
        finally:
            ray.shutdown()

    def _results(self, ray: Any, units: deque[Sequence[Work]], begin: Begin) -> Iterator[list[Any]]:
        running: dict[Any, tuple[Any, Work, deque[Work]]] = {}

        def feed(actor: Any, own: deque[Work]) -> None:
            """Give a worker its next task: of the unit at hand, else of the next one."""
            while own or units:
                own = own or deque(units.popleft())
                if (begun := begin(own.popleft())) is not None:
                    running[actor.run.remote(begun.task, begun.images)] = (actor, begun.task, own)
                    return

        for actor in self._actors(ray, min(self.workers, len(units))):
            feed(actor, deque())
        while running:
            (finished, *_), _ = ray.wait(list(running), num_returns=1)
            actor, task, own = running.pop(finished)
            try:
                made = ray.get(finished)
            except ray.exceptions.RayActorError:  # the process died: each of its jobs again, alone, at the end
                units.extend((single,) for single in task.alone())
                (actor,) = self._actors(ray, 1)
            else:
                yield made
            feed(actor, own)

    def _check_gpus(self, ray: Any) -> None:
        """Workers for which this machine has no GPU would be waited for without end; a cluster may grow."""
        there, wanted = ray.cluster_resources().get("GPU", 0.0), self.workers * self.gpus_per_worker
        if self.address == LOCAL and wanted > there:
            raise InputError(
                f"{self.workers} workers with {self.gpus_per_worker:g} GPUs each need {wanted:g}, and there are "
                f"{there:g} here; choose fewer workers or a smaller --gpus-per-worker."
            )

    def _actors(self, ray: Any, count: int) -> list[Any]:
        """New workers, ready to run. Raises: InputError if they cannot load the model, or die of it."""
        remote = ray.remote(num_cpus=1, num_gpus=self.gpus_per_worker, max_restarts=0, max_task_retries=0)(_Actor)
        ready: list[Any] = []
        for _ in range(MAX_CRASHES):
            started = [remote.remote(self.make_worker) for _ in range(count - len(ready))]
            ready += [actor for actor in started if self._is_ready(ray, actor)]
            if len(ready) == count:
                return ready
        raise InputError(
            f"A worker died {MAX_CRASHES} times while it loaded the model; is there memory for {self.workers} of them?"
        )

    def _is_ready(self, ray: Any, actor: Any) -> bool:
        """Whether it has loaded the model; False if its process died. Raises: InputError if there is no such model."""
        try:
            problem = ray.get(actor.problem.remote())
        except ray.exceptions.RayActorError:
            return False
        if problem is not None:
            raise InputError(problem)
        return True


class _Actor:
    """A worker in a process of Ray's."""

    def __init__(self, make_worker: Callable[[], AnyWorker]) -> None:
        self._problem: str | None = None
        try:
            self._worker = make_worker()
        except AlignvidError as error:  # shown to the user in one sentence, which a dead process could not do
            self._problem = str(error)
        except Exception as error:
            self._problem = f"A worker cannot load the model: {type(error).__name__}: {error}"

    def problem(self) -> str | None:
        return self._problem

    def run(self, task: Work, images: tuple[bytes, ...]) -> list[Any]:
        return self._worker.run(task, images)


def _connected(address: str, workers: int) -> Any:
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise MissingExtra('Ray is not installed; install it: pip install "alignvid[ray]".') from error
    if address == LOCAL:
        _start(ray, max(workers, os.cpu_count() or 1))
        return ray
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"Ray at {address!r} cannot be reached: {error}; start it, or give --ray {LOCAL}.") from error
    return ray


def _start(ray: Any, cores: int) -> None:
    """Ray on this machine. On a busy one a start may take longer than it waits for it, so that it is tried again."""
    quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    for tried in range(1, _STARTS + 1):
        try:
            ray.init(num_cpus=cores, **quiet)
            return
        except Exception as error:  # Ray has no class of its own for it
            pass_on_interrupt(error)
            ray.shutdown()
            if "timed out during startup" not in str(error):
                raise InputError(f"Ray cannot be started here: {error}") from error
            if tried == _STARTS:
                raise InputError(
                    f"Ray was not up within its 30 s, {_STARTS} times: this machine is too busy; run it later, or "
                    "without --ray."
                ) from error
            logger.warning("Ray was not up within its 30 s, for this machine is busy; it is started again.")
