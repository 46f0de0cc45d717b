"""The jobs of `alignvid generate --jobs` on the pool of the benchmark: its workers, retries and attempts.

A worker gets a job with the file of its image and sends back every file of the job's folder, so that it needs no common
disk; the folders are those that one process leaves.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from alignvid.bench.runs.attempts import Attempts, Ledger
from alignvid.bench.runs.pools import Begun, Pool
from alignvid.bench.runs.ray_pool import RayPool
from alignvid.errors import AlignvidError, pass_on_interrupt
from alignvid.files import folder_for_results, is_foreign, read_bytes, writable_folder, write_together
from alignvid.generate.jobs import Job, JobResult, finished_before, say_choice
from alignvid.generate.loading import find_model
from alignvid.generate.model import Model, load_model
from alignvid.generate.record import RECORD_FILE, SpecFacts, read_record
from alignvid.generate.run import generate
from alignvid.generate.spec import GenerationSpec

_ATTEMPTS = ".attempts"
"""Hidden: a job may have any other name."""


@dataclass(frozen=True)
class JobWork:
    """A job for a worker."""

    job: Job

    def alone(self) -> list[JobWork]:
        """It has one part."""
        return [self]


class MadeJob(NamedTuple):
    """What became of a job: its files by name, or why there are none."""

    id: str
    files: dict[str, bytes] | None
    error: str | None


class GenerationWorker:
    """One loaded model that runs jobs, one after the other."""

    def __init__(self, spec: GenerationSpec, compare: bool, strict: bool) -> None:
        """Load the model of a list of jobs."""
        self._model: Model = load_model(find_model(spec.model), spec, show_progress=False)
        self._compare, self._strict = compare, strict

    def run(self, task: JobWork, images: Sequence[bytes]) -> list[MadeJob]:
        """One result; a job that raises says why, and the worker takes the next."""
        try:
            return [MadeJob(task.job.id, self._files(task.job.spec, images), None)]
        except AlignvidError as error:
            return [MadeJob(task.job.id, None, str(error))]
        except Exception as error:  # the outer loop: one job's crash must not lose the others
            pass_on_interrupt(error)
            return [MadeJob(task.job.id, None, f"{type(error).__name__}: {error}")]

    def _files(self, spec: GenerationSpec, images: Sequence[bytes]) -> dict[str, bytes]:
        """All that one process would leave in the job's folder; its record names the image as the job does."""
        with tempfile.TemporaryDirectory() as place:
            here = spec
            if spec.image is not None:
                copy = Path(place) / f"image{Path(spec.image).suffix}"
                copy.write_bytes(images[0])
                here = replace(spec, image=str(copy))
            made = generate(here, Path(place) / "out", compare=self._compare, model=self._model, strict=self._strict)
            files = {path.name: read_bytes(path) for path in made.folder.iterdir() if not is_foreign(path)}
        record = replace(made.record, spec=SpecFacts(**spec.to_dict()))
        del files[RECORD_FILE]
        return {**files, RECORD_FILE: record.to_json()}


def run_jobs_on_ray(
    jobs: Sequence[Job],
    out: str | Path,
    *,
    ray: str,
    workers: int = 1,
    gpus_per_worker: float = 0.0,
    compare: bool = False,
    strict: bool = False,
    on_result: Callable[[JobResult], None] = lambda result: None,
    on_choice: Callable[[dict[str, str]], None] = lambda lines: None,
) -> list[JobResult]:
    """`alignvid.generate.run_jobs` on Ray's workers: the same folders, the same results, in the order of the list.

    A worker that dies is replaced and its job tried again; one in which the process died three times is set aside. A
    job whose folder holds its finished record is not run again.

    Raises: AlignvidError for what is wrong with all jobs: the model, the recipe, Ray, its workers, or the folder.
    """
    pool = RayPool(partial(GenerationWorker, jobs[0].spec, compare, strict), ray, workers, gpus_per_worker)
    return run_jobs_on(pool, jobs, out, compare=compare, on_result=on_result, on_choice=on_choice)


def run_jobs_on(
    pool: Pool,
    jobs: Sequence[Job],
    out: str | Path,
    *,
    compare: bool,
    on_result: Callable[[JobResult], None] = lambda result: None,
    on_choice: Callable[[dict[str, str]], None] = lambda lines: None,
) -> list[JobResult]:
    """The same on any pool."""
    with folder_for_results(Path(out)) as folder:
        results = {job.id: found for job in jobs if (found := finished_before(job, folder / job.id, compare))}
        for result in results.values():
            on_result(result)
        missing = [job for job in jobs if job.id not in results]
        if missing:
            say_choice(missing[0].spec, on_choice)
        for result in _results(pool, missing, folder):
            results[result.id] = result
            on_result(result)
    return [results[job.id] for job in jobs]


def _results(pool: Pool, jobs: Sequence[Job], folder: Path) -> Iterator[JobResult]:
    by_id = {job.id: job for job in jobs}
    refused: list[JobResult] = []

    def ended(job: Job, error: str | None) -> JobResult:
        place = folder / job.id
        record = None if error else read_record(place)
        return JobResult(job.id, job.spec, place, record, error, was_finished=False)

    with Ledger(Attempts(folder, _ATTEMPTS)) as ledger:

        def begin(work: JobWork) -> Begun | None:
            job = work.job
            try:
                images = () if job.spec.image is None else (read_bytes(job.spec.image),)
                problem = ledger.begin(job.id)
            except AlignvidError as error:
                images, problem = (), str(error)
            if problem is not None:
                refused.append(ended(job, problem))
                return None
            return Begun(work, images)

        for made in pool.results([(JobWork(job),) for job in jobs], begin):
            for one in made:
                yield ended(by_id[one.id], one.error or _kept(folder / one.id, one))
                ledger.end(one.id)
        yield from refused


def _kept(place: Path, made: MadeJob) -> str | None:
    """Write a job's files; why that failed, if it did."""
    try:
        write_together(writable_folder(place), made.files or {})
    except AlignvidError as error:
        return str(error)
    return None
