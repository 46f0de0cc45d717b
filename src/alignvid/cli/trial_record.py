"""alignvid trial record and merge: what a trial says, in one file; and what several say together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alignvid.cli.terminal import examples, json_option, print_json, print_table, print_text, quiet_libraries, say

if TYPE_CHECKING:
    from alignvid.bench.trials.merging import ModelOutcome


@click.command(
    epilog=examples(
        "alignvid trial record trial",
        "alignvid trial record trial --answers ana.json --answers ben.json",
    )
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--answers",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A file that the trial's page saved; once for each person.",
)
@json_option
def record(folder: Path, answers: Sequence[Path], as_json: bool) -> None:
    """Write the record of the trial in FOLDER, to be sent, and a picture sheet, to be posted.

    The record holds no picture, no prompt and no path. Answers of a judge (`alignvid bench judge FOLDER`) go into it.
    """
    quiet_libraries()
    from alignvid.bench.run_folder import RunFolder
    from alignvid.bench.trials.blind import draw_pairs, read_answers
    from alignvid.bench.trials.merging import outcomes_by_model
    from alignvid.bench.trials.record import RECORD_FILE, record_of
    from alignvid.bench.trials.registration import TRIAL_FILE, registered
    from alignvid.bench.trials.running import measured
    from alignvid.report.trial_sheet import write_sheet

    plan, run = registered(folder), RunFolder(folder)
    if plan is None or not run.exists():
        raise click.UsageError(
            f"{str(folder)!r} holds no trial ({TRIAL_FILE}); give the --out of `alignvid trial run`."
        )
    raters = read_answers(answers, plan, draw_pairs(plan, run))
    measured(folder)
    found = record_of(plan, run, raters)
    file = run.write(RECORD_FILE, found.to_bytes())
    (outcome,) = outcomes_by_model([found])
    sheet = write_sheet(run, plan, outcome)
    if as_json:
        print_json({"record": str(file), "sheet": str(sheet), **outcome.to_dict()})
        return
    _print([outcome])
    missing = sum(not clip["made"] for clip in found.clips)
    if missing:
        say(f"{missing} of {len(found.clips)} clips are missing; the line of `alignvid trial run` makes them")
    click.echo(f"{file}: {len(found.to_bytes()) / 1000:.0f} kB, to send; {sheet}: to post")


@click.command(
    epilog=examples(
        "alignvid trial merge ana.json ben.json",
        "alignvid trial merge ana.json ben.json --out table.md",
    )
)
@click.argument("records", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Also write the table as Markdown into this file.")
@json_option
def merge(records: Sequence[Path], out: Path | None, as_json: bool) -> None:
    """One table of the trials in RECORDS, by model, with intervals over scenes.

    Only trials of the same scenes, arms, noises and criteria can be merged.
    """
    from alignvid.bench.trials.merging import markdown
    from alignvid.bench.trials.merging import merge as merged
    from alignvid.files import write_bytes

    found = merged(records)
    if out is not None:
        write_bytes(out, markdown(found).encode())
    if as_json:
        print_json([one.to_dict() for one in found])
    else:
        _print(found)


def _print(models: Sequence[ModelOutcome]) -> None:
    """The verdicts in a table, the numbers in another: both fit a terminal."""
    from alignvid.bench.trials.merging import LEGEND, rows_of

    for one in models:
        records = f"{one.records} record" + "s" * (one.records > 1)
        click.echo(f"{one.model}: {records}\n")
        rows: list[Any] = rows_of([one])
        print_table(
            ("arm", "follows better", "p", "apart from it", "verdict"), [(r[1], r[4], r[5], r[6], r[3]) for r in rows]
        )
        click.echo()
        print_table(("arm", "judge", "flow", "stillness", "acted", "time", "memory"), [(r[1], *r[7:13]) for r in rows])
        click.echo()
        for arm in one.arms:
            click.echo(f"{arm.arm}: {arm.verdict}, for {arm.why}")
        click.echo()
    print_text(LEGEND)
