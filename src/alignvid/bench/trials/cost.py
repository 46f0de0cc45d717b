"""What a trial will cost, said before it begins: clips, hours, memory, disk."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from alignvid.bench.run_folder import RunFolder
from alignvid.bench.runs.jobs import Job
from alignvid.bench.runs.plan import Plan
from alignvid.bench.runs.variants import BASELINE
from alignvid.bench.runs.worker import Timed
from alignvid.errors import OutputError

_PAIRS_AN_HOUR = 240
"""That a person compares, at two answers in a quarter of a minute."""


@dataclass(frozen=True)
class Cost:
    """Of the clips that are still to be made."""

    clips: int
    there: int
    """Clips that are there from an earlier start."""
    hours: float
    step_s: float
    peak_bytes: int | None
    disk_bytes: int
    free_bytes: int
    pairs: int
    """That people are asked about."""

    def lines(self) -> dict[str, str]:
        """In words, under headings."""
        peak = (
            "not known here" if self.peak_bytes is None else f"{_size(self.peak_bytes)} at most, measured in one clip"
        )
        there = f"; {self.there} are there" if self.there else ""
        return {
            "clips": f"{self.clips} to make{there}",
            "time": f"{_time(self.hours)}, from one step of {self.step_s:.2f} s and what a clip takes besides",
            "memory": peak,
            "disk": f"{_size(self.disk_bytes)} at most; {_size(self.free_bytes)} are free",
            "people": f"{self.pairs} pairs, {_time(self.pairs / _PAIRS_AN_HOUR)} of looking; you may stop at any one",
        }


def cost_of(plan: Plan, folder: Path, timed: Timed) -> Cost:
    """The cost of what is missing. Raises: OutputError if the disk has no room for it."""
    missing = missing_jobs(plan, folder)
    base = next(job for job in plan.jobs if job.variant.name == BASELINE)
    seconds = sum(_seconds(job, base, timed) for job in missing)
    arms = {job.variant.name for job in plan.jobs if not job.variant.still} - {BASELINE}
    cost = Cost(
        clips=len(missing),
        there=len(plan.jobs) - len(missing),
        hours=seconds / 3600,
        step_s=timed.step_s,
        peak_bytes=timed.peak_bytes,
        disk_bytes=2 * len(missing) * timed.file_bytes,  # clips, and those of the page where a disk has no links
        free_bytes=shutil.disk_usage(folder).free,
        pairs=len(arms) * len(plan.samples) * len(plan.spec.seeds),
    )
    if cost.disk_bytes > cost.free_bytes:
        raise OutputError(
            f"The clips may take {_size(cost.disk_bytes)}, and {_size(cost.free_bytes)} are free in {str(folder)!r}; "
            "free some space, choose another --out, or fewer scenes with --count."
        )
    return cost


def missing_jobs(plan: Plan, folder: Path) -> list[Job]:
    """Jobs of which no whole video is in the folder."""
    run = RunFolder(folder)
    there = {record.job for record in run.videos() if run.is_whole(record)} if run.exists() else set()
    return [job for job in plan.jobs if job.id not in there]


def _seconds(job: Job, base: Job, timed: Timed) -> float:
    """Of a clip; guidance that the timed one had not costs a second pass."""
    if job.variant.still:
        return 0.0
    passes = 2 if (job.settings.guidance or 0) > 1 >= (base.settings.guidance or 0) else 1
    return timed.other_s + passes * job.settings.steps * timed.step_s


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _time(hours: float) -> str:
    minutes = max(round(60 * hours), 1)
    return f"{hours:.1f} hours" if hours >= 1 else f"{minutes} minute" + "s" * (minutes > 1)
