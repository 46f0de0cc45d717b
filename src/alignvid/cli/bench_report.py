"""alignvid bench report: one folder that shows and plays a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from alignvid.cli.bench_score import scorecard, scoring_options
from alignvid.cli.terminal import examples, json_option, print_json, say


@click.command(
    epilog=examples("alignvid bench report RUN", "alignvid bench report RUN --judge rule --out report-of-the-rule")
)
@scoring_options
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the report; RUN/report unless given.")
@click.option("--audit", type=click.Path(path_type=Path), help="exact-….json of an exact audit of the same judge.")
@json_option
def report(run: Path, out: Path | None, audit: Path | None, as_json: bool, **asked: Any) -> None:
    """Show RUN as a page: tables, plots with intervals, and every video beside its rivals with each verdict.

    The folder holds all that the page needs, videos too: it opens from disk and can be moved or zipped. Exit code 1:
    some videos are damaged, and not shown.
    """
    card = scorecard(run, **asked)
    from alignvid.bench.audits.exact_file import read_exact
    from alignvid.report.benchmark import damage, write_report

    rates = None if audit is None else read_exact(audit, card.run.judging)
    page, damaged = write_report(run, out or run / "report", card, rates)
    for sentence in damage(damaged):
        say(sentence)
    if as_json:
        counts = {"videos": len(card.run.videos), "damaged": len(damaged), "samples": len(card.run.samples)}
        print_json({"page": str(page), **counts})
    else:
        click.echo(page)
    sys.exit(1 if damaged else 0)
