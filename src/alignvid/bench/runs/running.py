"""Run a benchmark: every job of the plan that is not done, each video and its record written as soon as it is there.

To resume a stopped run, repeat the command: what is done is not made again. A job that raises is recorded as failed,
and tried again in the next run; so is one during which the process died three times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from alignvid.bench.records import VideoRecord
from alignvid.bench.run_folder import VIDEOS, RunFolder
from alignvid.bench.runs.attempts import Attempts, Ledger
from alignvid.bench.runs.jobs import Task
from alignvid.bench.runs.plan import Plan, make_plan
from alignvid.bench.runs.pools import Begun, LocalPool, Pool
from alignvid.bench.runs.ray_pool import RayPool
from alignvid.bench.runs.spec import BenchSpec
from alignvid.bench.runs.tasks import shard_of, units_of
from alignvid.bench.runs.worker import failed
from alignvid.errors import InputError
from alignvid.files import held, read_bytes, writable_folder

_PLAN_LOCK = ".planning.lock"
_WAIT_S = 60.0
"""For the plan: shards that start at the same moment write it one after the other, each joined with the last."""


@dataclass
class RunResult:
    """What a run did, in numbers."""

    folder: Path
    planned: int
    """Jobs of this command and shard."""
    done_before: int
    made: int = 0
    failed: list[VideoRecord] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)
    """Samples that were not run, with the reason."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "run": str(self.folder),
            "planned": self.planned,
            "done_before": self.done_before,
            "made": self.made,
            "failed": {
                row.job: {"sample": row.sample, "variant": row.variant, "error": row.error} for row in self.failed
            },
            "unusable": self.unusable,
        }


def run(
    spec: BenchSpec,
    out: str | Path,
    *,
    ray: str | None = None,
    workers: int = 1,
    gpus_per_worker: float = 0.0,
    on_plan: Callable[[RunResult], None] = lambda result: None,
    on_record: Callable[[VideoRecord], None] = lambda record: None,
) -> RunResult:
    """Plan a run in the folder `out` and do what is missing of it.

    Args:
        spec: What to run.
        out: The run's folder; made if it is missing.
        ray: "local", or the address of a Ray cluster; this process runs everything itself unless given.
        workers: Processes on Ray.
        gpus_per_worker: May be a fraction.
        on_plan: Called once, with what is planned and what of it was done before.
        on_record: Called after each job.

    Raises: AlignvidError for what is wrong with all jobs: data, model, variants, another run in the folder, no space.
    """
    if ray is None and (workers, gpus_per_worker) != (1, 0.0):
        raise InputError("Workers and their GPUs are for Ray; add --ray local, or leave them out.")
    plan = make_plan(spec, on_gpu=None if ray is None else gpus_per_worker > 0)
    make_worker = partial(_pipeline_worker, replace(spec, dtype=plan.info.settings["dtype"]))
    pool = LocalPool(make_worker) if ray is None else RayPool(make_worker, ray, workers, gpus_per_worker)
    return run_plan(plan, out, pool=pool, on_plan=on_plan, on_record=on_record)


def run_plan(
    plan: Plan,
    out: str | Path,
    *,
    pool: Pool,
    on_plan: Callable[[RunResult], None] = lambda result: None,
    on_record: Callable[[VideoRecord], None] = lambda record: None,
) -> RunResult:
    """Do what is missing of a plan; see `run`."""
    folder = RunFolder(writable_folder(Path(out)))
    with held(folder.path / _PLAN_LOCK, busy=f"{str(out)!r} is being planned elsewhere; try again.", wait_s=_WAIT_S):
        plan.write(folder)
    index, count = plan.spec.shard
    busy = f"{str(out)!r} is being run by another process; wait until it ends, or share the work: --shard 0/2 and 1/2."
    with held(folder.path / f".running-{index}-of-{count}.lock", busy=busy):
        return _run_planned(plan, folder, pool, on_plan, on_record)


def _run_planned(
    plan: Plan,
    folder: RunFolder,
    pool: Pool,
    on_plan: Callable[[RunResult], None],
    on_record: Callable[[VideoRecord], None],
) -> RunResult:
    writable_folder(folder.path / VIDEOS)
    jobs = shard_of(plan.jobs, batch=plan.spec.batch, shard=plan.spec.shard)
    records = {record.job: record for record in folder.videos()}
    missing = {job.id for job in jobs if job.id not in records or not folder.is_whole(records[job.id])}
    result = RunResult(folder.path, len(jobs), len(jobs) - len(missing), unusable=dict(plan.unusable))
    on_plan(result)
    attempts = Attempts(folder.path)
    suspects = missing & (attempts.all() | {job for job, record in records.items() if record.status == "failed"})
    _remove_torn_files(folder.path / VIDEOS, missing)
    units = units_of(jobs, batch=plan.spec.batch, missing=missing, suspects=suspects)
    _do(folder, attempts, pool, units, result, on_record)
    return result


def _do(
    folder: RunFolder,
    attempts: Attempts,
    pool: Pool,
    units: list[tuple[Task, ...]],
    result: RunResult,
    on_record: Callable[[VideoRecord], None],
) -> None:
    def note(record: VideoRecord, video: bytes | None) -> None:
        folder.write_video(record, video)
        result.made += record.status == "done"
        if record.status == "failed":
            result.failed.append(record)
        on_record(record)

    with Ledger(attempts) as ledger:

        def begin(task: Task) -> Begun | None:
            jobs = []
            for job in task.jobs:
                if (problem := ledger.begin(job.id)) is not None:
                    note(failed(job, problem), None)
                    continue
                jobs.append(job)
            images = tuple(None if job.image is None else read_bytes(folder.path / job.image) for job in jobs)
            return Begun(replace(task, jobs=tuple(jobs)), images) if jobs else None

        for made in pool.results(units, begin):
            for record, video in made:
                note(record, video)
                ledger.end(record.job)


def _remove_torn_files(videos: Path, jobs: set[str]) -> None:
    """Parts of files that a killed process left, of jobs that are this process's own."""
    for part in videos.glob(".*.part"):
        if part.name.split(".")[1] in jobs:
            part.unlink(missing_ok=True)


def _pipeline_worker(spec: BenchSpec) -> Any:
    from alignvid.bench.runs.worker import PipelineWorker

    return PipelineWorker(spec)
