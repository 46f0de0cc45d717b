"""Is the ranking of the miniature's blocks stable? python -m alignvid.calibration.stability --out FOLDER.

Calibrates on two disjoint sets of scenes, or more, and prints Spearman's rank correlation between any two. What was
measured is kept in the folder, so that an interrupted run resumes.
"""

from __future__ import annotations

import warnings
from itertools import combinations
from pathlib import Path
from typing import Any

import click
import torch
from scipy.stats import spearmanr

from alignvid.calibration.run import Calibration, calibrate
from alignvid.files import sha256_of_file
from alignvid.miniature import weights_folder

_WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@click.command(epilog="Example: python -m alignvid.calibration.stability --steps-window 0-0.3 --out stability")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder; resumed if it exists.")
@click.option("--count", type=click.IntRange(2), default=50, show_default=True, help="Scenes in each set.")
@click.option("--sets", type=click.IntRange(2), default=2, show_default=True, help="Disjoint sets of scenes.")
@click.option("--steps-window", help="As of `alignvid calibrate`; the preset's unless given.")
@click.option("--model", help="Another pipeline folder than the shipped miniature.")
def main(out: Path, count: int, sets: int, steps_window: str | None, model: str | None) -> None:
    """Print every block's foreground ratio on each set, and the rank correlations of any two sets."""
    fields = {name: value for name, value in {"model": model, "steps_window": steps_window}.items() if value}
    warnings.simplefilter("ignore", UserWarning)  # a tau of 0 chooses every block, on purpose
    made = [
        calibrate(
            f"scenes:{index * count}-{(index + 1) * count}",
            out / f"set-{index}.toml",
            fields=fields,
            tau=0.0,
            show_progress=True,
        )
        for index in range(sets)
    ]
    weights = Path(model or weights_folder()) / _WEIGHTS
    click.echo(f"transformer sha256 {sha256_of_file(weights)[:12]}, torch {torch.__version__}")
    for of_block in zip(*(calibration.blocks for calibration in made), strict=True):
        cells = "  ".join(f"{block.ratio:.3f} [{block.low:.3f}, {block.high:.3f}]" for block in of_block)
        click.echo(f"block {of_block[0].block}  {cells}")
    click.echo(f"chance   {'  '.join(f'{calibration.chance:.3f}' for calibration in made)}")
    for first, second in combinations(range(sets), 2):
        rho = rank_correlation(made[first], made[second])
        click.echo(f"Spearman's rho over {len(made[0].blocks)} blocks, sets {first} and {second}: {rho:.3f}")


def rank_correlation(first: Calibration, second: Calibration) -> float:
    """Spearman's rank correlation of the blocks' ratios in two calibrations of one model."""
    one, other = ([block.ratio for block in made.blocks] for made in (first, second))
    result: Any = spearmanr(one, other)
    return float(result.statistic)


if __name__ == "__main__":
    main()
