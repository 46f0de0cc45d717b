"""The command that makes a preset from measurements: calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alignvid.cli.options import given, spec_options
from alignvid.cli.terminal import examples, json_option, print_json, print_table, quiet_libraries, shows_progress
from alignvid.cli.watching import say_starting

if TYPE_CHECKING:
    from alignvid.calibration import Calibration

_SOURCES = ("auto", "masks", "sam2", "scenes", "grabcut")

_FIELDS = (
    *("model", "preset", "gamma", "steps-window", "streams", "branch", "seed", "steps", "guidance"),
    *("size", "frames", "device", "dtype", "offload", "max-pixels"),
)
"""Fields of the spec that all pairs share. No blocks: they are what is looked for."""


@click.command(
    epilog=examples(
        "alignvid calibrate --model miniature --data scenes --limit 4 --tau 0.1 --out preset.toml --pictures pictures",
        "alignvid calibrate --data examples/jobs.jsonl --foreground grabcut --tau 0.1 --out preset.toml --json",
    )
)
@spec_options(*_FIELDS)
@click.option("--data", required=True, help='JSON Lines as for generate --jobs, an OmitI2V folder, or "scenes".')
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The preset's file, NAME.toml.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many pairs; of scenes 50 unless given.")
@click.option("--tau", type=float, default=0.5, show_default=True, help="Ratio above which a block is chosen.")
@click.option("--foreground", type=click.Choice(_SOURCES), default="auto", show_default=True, help="Source of masks.")
@click.option("--masks", help="Folder of masks ID.png, white on black, each as large as its image.")
@click.option("--sam2", help="SAM 2: a folder or a Hub id such as facebook/sam2.1-hiera-large.")
@click.option("--pictures", type=click.Path(path_type=Path), help="Folder for a sheet of pictures per block.")
@json_option
def calibrate(
    data: str,
    out: Path,
    limit: int | None,
    tau: float,
    foreground: str,
    masks: str | None,
    sam2: str | None,
    pictures: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure which blocks of a model look at the foreground, and write a preset with those.

    Gain, streams, window and branch of the new preset are those of --preset unless given; steps after the window are
    not run.
    """
    say_starting()
    quiet_libraries()
    from alignvid.calibration import calibrate as run

    try:
        made = run(
            data,
            out,
            fields=given(options),
            count=limit,
            tau=tau,
            foreground=foreground,
            masks=masks,
            sam2=sam2,
            pictures=pictures,
            show_progress=shows_progress(),
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Interrupted; what was measured is kept, the same command resumes there.") from None
    if as_json:
        print_json(made.to_dict())
    else:
        _print(made)


def _print(made: Calibration) -> None:
    rows = [
        (item.stack, str(item.block), f"{item.ratio:.3f}", f"{item.low:.3f} to {item.high:.3f}", _mark(item.is_chosen))
        for item in made.blocks
    ]
    print_table(("stack", "block", "r", "95 % interval", "in the preset"), rows)
    click.echo(
        f"\n{made.pair_count} pairs, {made.foreground_share:.1%} of their pixels foreground; "
        f"r of a block that singles out nothing: {made.chance:.3f}"
    )
    click.echo(made.preset)


def _mark(is_chosen: bool) -> str:
    return "yes" if is_chosen else "no"
