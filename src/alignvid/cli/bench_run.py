"""The command that makes a benchmark's videos: bench run."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alignvid.cli.options import RAY_OPTIONS, given, spec_options
from alignvid.cli.terminal import (
    examples,
    json_option,
    next_line,
    print_json,
    quiet_libraries,
    resumable,
    say,
    shows_progress,
)
from alignvid.cli.watching import say_starting

if TYPE_CHECKING:
    from alignvid.bench.records import VideoRecord
    from alignvid.bench.runs.running import RunResult

_SHARD = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")

_SHARED = ("model", "steps", "guidance", "size", "frames", "fps", "device", "dtype", "offload", "max-pixels")
"""What all jobs have in common; a variant may have another guidance."""

_RUN_OPTIONS = (
    click.option(
        "--data",
        required=True,
        help='"omitshapes", "omiti2v", a folder, a Hub id; i2v-compbench:, editing:, t2v: or t2i:PATH.',
    ),
    click.option(
        "--variants",
        multiple=True,
        metavar="A,B,…",
        help='baseline, still, alignvid, presets, .toml files, "late: gamma=1.5 steps-window=0.7-1.0 guidance=3", '
        '"both: streams=text & kind=energy streams=image". '
        "baseline,alignvid unless given; the first is compared with.",
    ),
    click.option(
        "--seed", "seeds", default="0", show_default=True, help="One or, with commas, more: each sample once for each."
    ),
    click.option("--limit", type=click.IntRange(min=1), help="Only the first so many samples."),
    click.option("--half", type=click.Choice(["development", "claim"]), help="The samples of one half only."),
    click.option("--batch", type=int, help="Samples in one call; the miniature only, 12 is nearly twice as fast."),
    click.option(
        "--strict", is_flag=True, help="A video in which the gain does not act as its recipe says has failed."
    ),
    click.option("--shard", help="Run part i of n, counted from 0: 0/4 … 3/4, on as many machines."),
)


def _run_options(command: Any) -> Any:
    for option in reversed((*_RUN_OPTIONS, *RAY_OPTIONS)):
        command = option(command)
    return spec_options(*_SHARED)(command)


@click.command(
    epilog=examples(
        "alignvid bench run --data omitshapes --limit 2 --out run",
        'alignvid bench run --data omitshapes --limit 2 --variants "baseline,x: gamma=2.5" --seed 0,1 --out run-2',
    )
)
@_run_options
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The run's folder; continued if it exists.")
@json_option
def run(out: Path, as_json: bool, **options: Any) -> None:
    """Make the videos of samples × variants × seeds. To resume a stopped run, repeat the command.

    Exit code 1: a job failed, or a sample cannot be used.
    """
    pool = {name: options.pop(name) for name in ("ray", "workers", "gpus_per_worker")}
    spec = _spec(options)
    say_starting()
    quiet_libraries()
    from alignvid.bench.runs.running import run as run_benchmark

    with RunProgress() as progress, resumable():
        result = run_benchmark(spec, out, **pool, on_plan=progress.begin, on_record=progress.advance)
    _print(result, options["data"], as_json)
    sys.exit(1 if result.failed or result.unusable else 0)


def _spec(options: dict[str, Any]) -> Any:
    from alignvid.bench.runs.spec import BenchSpec

    fields = given({name: value for name, value in options.items() if name != "shard"})
    fields["variants"] = options["variants"] or ("baseline,alignvid",)
    fields["seeds"] = integers(options["seeds"])
    if options["shard"] is not None:
        fields["shard"] = _shard(options["shard"])
    return BenchSpec(**fields)


def integers(text: str) -> tuple[int, ...]:
    """Seeds, with commas between them."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise click.UsageError(f"--seed {text!r} is no number; write for example --seed 0 or --seed 0,1,2.") from None


def _shard(text: str) -> tuple[int, int]:
    if (match := _SHARD.fullmatch(text)) is None:
        raise click.UsageError(f"--shard {text!r} is none; write for example --shard 0/4.")
    return int(match[1]), int(match[2])


class RunProgress:
    """A bar for who watches, and a line for every failure."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __enter__(self) -> RunProgress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def begin(self, result: RunResult) -> None:
        """Show what is planned, once."""
        from tqdm import tqdm

        for sample, reason in result.unusable.items():
            say(f"unusable: {sample}: {reason}")
        self._bar = tqdm(
            total=result.planned, initial=result.done_before, desc="videos", unit="", disable=not shows_progress()
        )

    def advance(self, record: VideoRecord) -> None:
        """Show how far the run is, after each job."""
        self._bar.update()
        if record.status == "failed":
            line = f"failed: {record.sample}, {record.variant}, seed {record.seed}: {record.error}"
            self._bar.write(line, file=sys.stderr)


def _print(result: RunResult, data: str, as_json: bool) -> None:
    if as_json:
        print_json(result.to_dict())
        return
    parts = [f"{result.made} videos made", f"{result.done_before} were there", f"{len(result.failed)} failed"]
    click.echo(f"{', '.join(parts)}, of {result.planned} planned; {len(result.unusable)} samples cannot be used")
    judge = ("rule",) if data == "omitshapes" else ("transformers", "--model", "Qwen/Qwen2.5-VL-7B-Instruct")
    next_line("bench", "judge", result.folder, "--judge", *judge)
