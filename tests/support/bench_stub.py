"""A worker without a model: frames made of what decides them, every computation noted in a file; and its data set."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from alignvid.bench.runs.worker import Facts, Made, failed, made_of


@dataclass
class StubWorker:
    log: Path
    pause_s: float = 0.0
    raises: frozenset[str] = frozenset()
    """Samples whose jobs raise."""
    dies: frozenset[str] = frozenset()
    """Samples at which the process ends at once, as at a fault in a native library."""

    def run(self, task, images):
        return [self._made(job) for job in task.jobs]

    def _made(self, job):
        with self.log.open("a") as log:
            log.write(f"{job.id} {os.getpid()}\n")
        time.sleep(self.pause_s)
        if job.sample.id in self.dies:
            os._exit(1)
        if job.sample.id in self.raises:
            return Made(failed(job, "ValueError: no luck"), None)
        noise = np.random.default_rng([job.noise_seed, len(job.variant.name)])
        return made_of(job, noise.integers(0, 255, (2, 16, 16, 3), np.uint8), Facts(self.pause_s))


def write_data(folder: Path, count: int) -> Path:
    """A data set in OmitI2V's schema with `count` samples."""
    folder.mkdir()
    question = {"id": "q", "question": "Is there a hat?", "expected_answer": "yes", "category": "object_presence"}
    rows = []
    for number in range(count):
        Image.new("RGB", (32, 32), (number % 256, 0, 0)).save(folder / f"{number}.png")
        rows.append(
            {
                "id": f"sample_{number}",
                "image-path": f"{number}.png",
                "prompt": "the cat puts on a hat",
                "main-category": "addition",
                "resolution": [32, 32],
                "questions": [question],
            }
        )
    (folder / "meta.json").write_text(json.dumps(rows))
    return folder


def computed(log: Path) -> list[str]:
    """The jobs that were computed, in order, each as often as it was."""
    return [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []


def contents(run: Path) -> dict[str, bytes]:
    """Every video and record of a run by name, timings aside, and its samples."""
    files = {file.name: file.read_bytes() for file in (run / "videos").iterdir()}
    for name in [name for name in files if name.endswith(".json")]:
        record = json.loads(files[name])
        del record["seconds"], record["peak_bytes"]
        files[name] = json.dumps(record).encode()
    return {**files, "samples.jsonl": (run / "samples.jsonl").read_bytes()}
