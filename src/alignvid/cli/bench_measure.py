"""alignvid bench measure: values of metrics for the videos of a run."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alignvid.cli.options import SPEC_OPTIONS
from alignvid.cli.terminal import (
    examples,
    json_option,
    print_json,
    print_table,
    quiet_libraries,
    resumable,
    say,
    shows_progress,
)

if TYPE_CHECKING:
    from alignvid.bench.metrics import Measured
    from alignvid.bench.records import MetricRecord


@click.command(
    epilog=examples(
        "alignvid bench measure RUN --metrics dynamic_degree_dis,temporal_flickering",
        "alignvid bench measure RUN --metrics dynamic_degree,aesthetic_quality --weights raft=raft-things.pth "
        "--weights aesthetic-head=sa_0_4_vit_l_14_linear.pth --protocol vbench",
    )
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--metrics", required=True, help="Names with commas between them; docs/metrics.md lists them.")
@click.option(
    "--protocol",
    type=click.Choice(["vbench", "released", "native"]),
    help="VBench's definition; after the released evaluation's re-encoding; or VBench's without its quirks. The first "
    "that all of the metrics know unless given.",
)
@click.option("--weights", multiple=True, metavar="NAME=PATH", help="Weights: a path or a Hub id; once per name.")
@SPEC_OPTIONS["device"]
@click.option("--ratio", metavar="W:H", help="Shape for the protocol released; the first video's decides unless given.")
@json_option
def measure(
    run: Path,
    metrics: str,
    protocol: str | None,
    weights: Sequence[str],
    device: str | None,
    ratio: str | None,
    as_json: bool,
) -> None:
    """Measure the videos of RUN, and append a row per metric and video to its metrics.jsonl.

    What is measured already is kept. A metric that cannot run says what it needs, the others run.
    """
    sources = _sources(weights)
    shape = _ratio(ratio)
    quiet_libraries()
    from alignvid.bench.metrics import measure_run
    from alignvid.bench.run_folder import RunFolder

    names = [name.strip() for name in metrics.split(",") if name.strip()]
    options = {"protocol": protocol, "sources": sources, "device": device, "ratio": shape, "on_row": _say_row}
    with resumable():
        measured = measure_run(RunFolder(run), names, **options)
    if as_json:
        print_json(_as_dict(measured))
    else:
        _print(measured)
    sys.exit(1 if any(count.failed for count in measured.counts) else 0)


def _sources(options: Sequence[str]) -> dict[str, str]:
    sources: dict[str, str] = {}
    for option in options:
        name, sign, path = option.partition("=")
        if not sign or not name or not path:
            raise click.UsageError(f"--weights {option!r} is not NAME=PATH; write --weights raft=raft-things.pth.")
        if name in sources:
            raise click.UsageError(f"--weights {name} is given twice; give it once.")
        sources[name] = path
    return sources


def _ratio(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,5}):([1-9][0-9]{0,5})", text)
    if match is None:
        raise click.UsageError(f"--ratio {text!r} is not W:H; write --ratio 16:9.")
    return int(match[1]), int(match[2])


def _say_row(row: MetricRecord) -> None:
    """Progress, for who watches; failures are counted at the end."""
    if shows_progress():
        say(f"{row.metric} {row.job}: {row.error if row.value is None else f'{row.value:.4f}'}")


def _print(measured: Measured) -> None:
    rows = [(count.metric, str(count.measured), str(count.failed)) for count in measured.counts]
    print_table((f"metric ({measured.protocol})", "measured", "failed"), rows)
    if measured.without_video:
        click.echo(f"{measured.without_video} jobs have no video.")
    for count in measured.counts:
        if count.error:
            say(f"{count.metric} cannot run: {count.error}")


def _as_dict(measured: Measured) -> dict:
    return {**vars(measured), "counts": [vars(count) for count in measured.counts]}
