"""Is the ranking of the miniature's blocks stable? python -m alignvid.calibration.stability --out FOLDER.

Calibrates twice, on two disjoint sets of scenes, and prints Spearman's rank correlation between the two. What was
measured is kept in the folder, so that an interrupted run resumes.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import click
import torch
from scipy.stats import spearmanr

from alignvid.calibration.run import Calibration, calibrate
from alignvid.files import sha256_of_file
from alignvid.miniature import weights_folder

_WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@click.command(epilog="Example: python -m alignvid.calibration.stability --out stability")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder; gone on with if it exists.")
@click.option("--count", type=click.IntRange(2), default=50, show_default=True, help="Scenes in each set.")
@click.option("--model", help="Another pipeline folder than the shipped miniature.")
def main(out: Path, count: int, model: str | None) -> None:
    """Print every block's foreground ratio on both sets, and their rank correlation."""
    fields = {} if model is None else {"model": model}
    warnings.simplefilter("ignore", UserWarning)  # a tau of 0 chooses every block, on purpose
    sets = {"first": f"scenes:0-{count}", "second": f"scenes:{count}-{2 * count}"}
    made = [
        calibrate(data, out / f"{name}.toml", fields=fields, tau=0.0, show_progress=True) for name, data in sets.items()
    ]
    weights = Path(model or weights_folder()) / _WEIGHTS
    click.echo(f"transformer sha256 {sha256_of_file(weights)[:12]}, torch {torch.__version__}")
    for first, second in zip(*(calibration.blocks for calibration in made), strict=True):
        click.echo(
            f"block {first.block}  {first.ratio:.3f} [{first.low:.3f}, {first.high:.3f}]  "
            f"{second.ratio:.3f} [{second.low:.3f}, {second.high:.3f}]"
        )
    click.echo(f"chance   {made[0].chance:.3f}  {made[1].chance:.3f}")
    click.echo(f"Spearman's rho over {len(made[0].blocks)} blocks: {rank_correlation(*made):.3f}")


def rank_correlation(first: Calibration, second: Calibration) -> float:
    """Spearman's rank correlation of the blocks' ratios in two calibrations of one model."""
    one, other = ([block.ratio for block in made.blocks] for made in (first, second))
    result: Any = spearmanr(one, other)
    return float(result.statistic)


if __name__ == "__main__":
    main()
