"""What the benchmark's runner costs without a model: time per job, and memory over many jobs.

    python benchmarks/bench_runner.py [--jobs 10000]

A stub stands for the pipeline: it gives ready frames at once. All else is real: plan, ids, encoding, records, attempts.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from alignvid.bench.runs.plan import make_plan
from alignvid.bench.runs.pools import LocalPool
from alignvid.bench.runs.running import run_plan
from alignvid.bench.runs.spec import BenchSpec
from alignvid.bench.runs.worker import Facts, made_of

FRAMES = np.random.default_rng(0).integers(0, 255, (9, 64, 64, 3), np.uint8)
SAMPLES = 100


class Stub:
    def run(self, task, images):
        return [made_of(job, FRAMES, Facts(0.0)) for job in task.jobs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), jobs), indent=2))


def measure(folder: Path, jobs: int) -> dict:
    data = write_data(folder / "data")
    begin = time.perf_counter()
    plan = make_plan(BenchSpec(data=str(data), variants=("baseline",), seeds=tuple(range(jobs // SAMPLES))))
    planning_s = time.perf_counter() - begin
    encode_s = statistics.median(timed(lambda: made_of(plan.jobs[0], FRAMES, Facts(0.0))) for _ in range(20))
    marks: list[tuple[float, float, float]] = []

    def note(record) -> None:
        marks.append((time.perf_counter(), time.process_time(), resident_mb()))

    result = run_plan(plan, folder / "run", pool=LocalPool(Stub), on_record=note)
    begin = time.perf_counter()
    again = run_plan(plan, folder / "run", pool=LocalPool(Stub))
    assert (result.made, again.made) == (len(plan.jobs), 0)
    walls = np.diff([wall for wall, _, _ in marks])
    memory = [megabytes for _, _, megabytes in marks]
    return {
        "jobs": len(plan.jobs),
        "planning_s": round(planning_s, 2),
        "per_job_ms": {"median": ms(np.median(walls)), "p95": ms(np.quantile(walls, 0.95)), "mean": ms(walls.mean())},
        "cpu_per_job_ms": ms((marks[-1][1] - marks[0][1]) / (len(marks) - 1)),
        "of_it_encoding_ms": ms(encode_s),
        "memory_mb": {str(at): round(memory[at - 1]) for at in (100, len(memory) // 2, len(memory))},
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "resume_with_nothing_to_do_s": round(time.perf_counter() - begin, 2),
    }


def write_data(folder: Path) -> Path:
    folder.mkdir()
    rows = []
    for number in range(SAMPLES):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(folder / f"{number}.png")
        question = {"id": "q", "question": "Is there a hat?", "expected_answer": "yes", "category": "object_presence"}
        row = {
            "id": f"s{number}",
            "image-path": f"{number}.png",
            "prompt": "a hat appears",
            "main-category": "addition",
        }
        rows.append({**row, "resolution": [64, 64], "questions": [question]})
    (folder / "meta.json").write_text(json.dumps(rows))
    return folder


def timed(function) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def ms(seconds: float) -> float:
    return round(1000 * float(seconds), 2)


if __name__ == "__main__":
    main()
