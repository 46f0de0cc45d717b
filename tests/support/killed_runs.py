"""`alignvid bench run` in a process that is killed at a chosen moment, and the same line typed again."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from bench_stub import computed, contents

MOMENTS = ("start", "job", "write")
"""Before the first job: imports, plan, model. In a job: encodings, shared steps, the video. While files are renamed."""
MOST_RUNS = 10
_POLL_S = {"job": 0.02, "write": 0.001}

PROGRAM = """
import sys
from alignvid.bench.runs.attempts import Attempts
from alignvid.cli import main

def note(self, job, begin=Attempts.begin):
    with open(sys.argv[1], "a") as log:
        log.write(job + "\\n")
    begin(self, job)

Attempts.begin = note
main(sys.argv[2:])
"""
"""The command line itself; each job that begins is noted in a file as well."""


@dataclass
class Typed:
    """One line, to be typed as often as it takes."""

    folder: Path
    """Of the run."""
    options: tuple[str, ...]
    jobs: int
    """How many there are in the whole run."""
    in_new_python: bool = True
    """False: in a copy of this process, which has imported everything already."""

    @property
    def log(self) -> Path:
        """Of the jobs that began, in order."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def start(self) -> BaseProcess:
        """Type the line."""
        process = multiprocessing.get_context("fork").Process(target=self._run)
        process.start()
        return process

    def finish(self) -> None:
        """Type the line until it says that nothing is left to do or to try again."""
        for _ in range(MOST_RUNS):
            process = self.start()
            process.join()
            if process.exitcode == 0:
                return
            assert process.exitcode == 1  # a job died three times and was set aside, for that run
        raise AssertionError(f"{MOST_RUNS} runs were not enough.")

    def kill(self, moment: str, rng: random.Random, pace: Pace, kill: Callable[[BaseProcess], bool]) -> bool:
        """Type the line and kill at that moment; whether something was killed."""
        begun = len(computed(self.log))
        process = self.start()
        if moment == "start":
            time.sleep(rng.uniform(0, pace.start_s))  # join(timeout) would wait for the end of what was exec'd
        else:
            wanted = begun + rng.randint(1, 3)
            _wait(process, lambda: len(computed(self.log)) >= wanted, _POLL_S["job"])
        if moment == "job":
            time.sleep(rng.uniform(0, pace.job_s))
        if moment == "write":
            _wait(process, lambda: next((self.folder / "videos").glob(".*.part"), None), _POLL_S["write"])
        killed = kill(process)
        process.join()
        return killed

    def _run(self) -> None:
        line = [str(word) for word in ("bench", "run", "--out", self.folder, *self.options)]
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        if self.in_new_python:
            os.execv(sys.executable, [sys.executable, "-c", PROGRAM, str(self.log), *line])
        sys.argv = ["alignvid", str(self.log), *line]
        exec(PROGRAM, {})


@dataclass(frozen=True)
class Pace:
    """How long a run takes when nothing disturbs it."""

    start_s: float
    """From typing to the first job."""
    job_s: float


def undisturbed(typed: Typed) -> tuple[dict[str, bytes], Pace]:
    """What comes of a line without a kill, and how long that takes."""
    begin = time.monotonic()
    process = typed.start()
    _wait(process, lambda: computed(typed.log), _POLL_S["job"])
    first = time.monotonic()
    process.join()
    assert process.exitcode == 0
    assert len(computed(typed.log)) == typed.jobs
    return contents(typed.folder), Pace(first - begin, (time.monotonic() - first) / typed.jobs)


def kill_driver(process: BaseProcess) -> bool:
    """`kill -9` of the process that was typed."""
    if process.exitcode is None:
        os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    return process.exitcode == -signal.SIGKILL


def kill_a_worker(process: BaseProcess) -> bool:
    """`kill -9` of one of Ray's workers of the process that was typed; it works on without."""
    import psutil

    try:
        children = psutil.Process(process.pid).children(recursive=True)
        workers = [child for child in children if "_Actor" in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return False
    for worker in workers[:1]:
        worker.kill()
    return bool(workers)


def _wait(process: BaseProcess, is_there: Callable[[], object], poll_s: float) -> None:
    """Until something is there, or the process has ended."""
    while process.exitcode is None and not is_there():
        time.sleep(poll_s)
