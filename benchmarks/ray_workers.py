"""How much faster two workers on Ray are than one, on the miniature: jobs a second, once the workers are at work.

    python benchmarks/ray_workers.py [--samples 16] [--repeats 3]

Start-up is left out: the clock runs from the record that ends every worker's first task to the last record. Ray gives
each worker one thread. Other load on the machine takes from two workers what it leaves to one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from typing import NamedTuple

from overhead import Row

TARGET = 1.7
VARIANTS = ("baseline", "alignvid")


class Pace(NamedTuple):
    """Of one run."""

    start_s: float
    """From typing to the first video: Ray, imports, the model."""
    jobs_per_s: float


def worker_rows(samples: int = 16, repeats: int = 3) -> list[Row]:
    """One worker and two in turn, so that a load that comes and goes meets both."""
    pairs = [(pace_of(1, samples), pace_of(2, samples)) for _ in range(repeats)]
    ratios = sorted(two.jobs_per_s / one.jobs_per_s for one, two in pairs)
    count = f"{len(VARIANTS) * samples} jobs × {repeats}"
    rows = []
    for workers, paces in enumerate(zip(*pairs, strict=True), start=1):
        jobs_per_s = statistics.median(pace.jobs_per_s for pace in paces)
        start_s = statistics.median(pace.start_s for pace in paces)
        rows.append(Row(f"{workers} on Ray", f"{jobs_per_s:.2f} jobs/s, the first after {start_s:.0f} s", "", count))
    spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    return [*rows, Row(f"2 workers / 1, on {os.cpu_count()} cores", spread, f"≥ {TARGET}", count)]


def pace_of(workers: int, samples: int) -> Pace:
    """Run so many samples by so many workers in a new folder."""
    from alignvid.bench.runs.running import run
    from alignvid.bench.runs.spec import BenchSpec

    ends: list[float] = []
    spec = BenchSpec(data="omitshapes", variants=(",".join(VARIANTS),), limit=samples)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        done = run(spec, folder, ray="local", workers=workers, on_record=lambda _: ends.append(time.perf_counter()))
    assert done.made == len(VARIANTS) * samples
    warm = len(VARIANTS) * workers  # the first sample of each worker
    return Pace(ends[0] - begin, (len(ends) - warm) / (ends[-1] - ends[warm - 1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    for what, measured, target, count in worker_rows(options.samples, options.repeats):
        print(f"{what}: {measured}  {target}  (n = {count})")


if __name__ == "__main__":
    main()
