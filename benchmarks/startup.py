"""What a user waits for: import, help, the demo's videos."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from overhead import Row

REPEATS = 9


def startup_rows() -> list[Row]:
    bare = [seconds("-c", "pass") for _ in range(REPEATS)]
    imported = [seconds("-c", "import alignvid") for _ in range(REPEATS)]
    helped = [seconds("-m", "alignvid", "--help") for _ in range(REPEATS)]
    floor = statistics.median(bare)
    return [
        Row(
            "import alignvid, beyond a bare interpreter",
            spread([s - floor for s in imported]),
            "<= 0.1 s",
            f"{REPEATS}",
        ),
        Row("alignvid --help, all in all", spread(helped), "<= 0.5 s", f"{REPEATS}"),
    ]


def demo_rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        elapsed = seconds("-m", "alignvid", "demo", "--out", str(Path(folder) / "demo"))
    return [Row("alignvid demo, all in all", f"{elapsed:.0f} s", "<= 90 s", "1")]


def seconds(*arguments: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - begin


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} s ({min(values):.3f} to {max(values):.3f})"
