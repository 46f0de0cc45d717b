"""What scoring and reporting a whole run costs: 367 samples, 12 variants, 3 seeds, with small real videos."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from overhead import Row

SAMPLES, VARIANTS, SEEDS = 367, ("baseline", *"abcdefghijk"), (0, 1, 2)


def scoring_rows() -> list[Row]:
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
    from judged_folders import moving_square, right, sample_of, write_run, wrong

    draw = random.Random(0)

    def decide(sample, variant, seed, question):
        return right(question) if draw.random() < 0.5 + 0.02 * VARIANTS.index(variant) else wrong(question)

    samples = [sample_of(number, questions=2 + number % 5) for number in range(SAMPLES)]
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(
            Path(folder),
            samples,
            variants=VARIANTS,
            seeds=SEEDS,
            decide=decide,
            clip=moving_square(),
            metrics={"aesthetic_quality": lambda sample, variant, seed: draw.gauss(0.6, 0.05)},
        ).path
        scored = processor_seconds("score", run)
        reported = processor_seconds("report", run)
        page = sum((run / "report" / name).stat().st_size for name in ("index.html", "gallery.js"))
    size = f"{SAMPLES} × {len(VARIANTS)} × {len(SEEDS)}"
    return [
        Row(f"bench score, {size}", f"{scored:.1f} s of processor", "with report <= 90 s", "1"),
        Row(f"bench report, {size}, scoring included", f"{reported:.1f} s of processor", "", "1"),
        Row("the report's page without videos and images", f"{page / 1e6:.1f} MB", "", "1"),
    ]


def processor_seconds(command: str, run: Path) -> float:
    """Of the command's process; one thread does the work, so on an idle core it is what a user waits for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "alignvid", "bench", command, str(run)], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
