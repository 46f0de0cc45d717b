"""Which jobs one worker makes one after the other, so that what they have in common is there when they need it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import groupby

from alignvid.bench.runs.jobs import Job, Task

Unit = tuple[Task, ...]
"""Tasks with the same samples; for one worker, in this order."""


def shard_of(jobs: Sequence[Job], *, batch: int, shard: tuple[int, int]) -> list[Job]:
    """The jobs of one shard: every so manieth batch of samples, with all of its variants and seeds."""
    index, count = shard
    order = {name: place for place, name in enumerate(dict.fromkeys(job.sample.id for job in jobs))}
    return [job for job in jobs if order[job.sample.id] // batch % count == index]


def units_of(jobs: Sequence[Job], *, batch: int, missing: Collection[str], suspects: Collection[str]) -> list[Unit]:
    """The missing jobs as units; each suspect, a job that failed or crashed before, comes last and alone.

    Args:
        jobs: All jobs of this process. Samples are put together by their place among all, not among what is missing.
        batch: Samples in one call.
        missing: Ids of the jobs to do.
        suspects: Ids of those among them that come last.
    """
    order = {name: place for place, name in enumerate(dict.fromkeys(job.sample.id for job in jobs))}
    wanted = [job for job in jobs if job.id in missing and job.id not in suspects]
    chunks = groupby(wanted, key=lambda job: order[job.sample.id] // batch)
    units = [_unit(list(chunk)) for _, chunk in chunks]
    alone = [(Task((job,), ()),) for job in jobs if job.id in suspects]
    return [*units, *alone]


def _unit(jobs: list[Job]) -> Unit:
    """Tasks by seed, then by what goes into the model, then by variant."""
    together: dict[tuple[object, ...], dict[str, list[Job]]] = {}
    for job in jobs:
        inputs = (job.seed, job.settings.guidance, job.variant.blur, job.variant.prompts, job.variant.images)
        together.setdefault(inputs, {}).setdefault(job.variant.name, []).append(job)
    by_seed = sorted(together.items(), key=lambda item: item[0][0])  # type: ignore[arg-type,return-value]  # the seed
    return tuple(task for _, variants in by_seed for task in _with_followers(variants.values()))


def _with_followers(groups: Iterable[list[Job]]) -> list[Task]:
    tasks = [Task(tuple(group), ()) for group in groups]
    names = [[job.sample.id for job in task.jobs] for task in tasks]
    return [
        replace(
            task,
            followers=tuple(
                later.jobs[0].variant
                for place, later in enumerate(tasks[index + 1 :], start=index + 1)
                if names[place] == names[index]
            ),
        )
        for index, task in enumerate(tasks)
    ]
