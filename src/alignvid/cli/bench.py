"""The commands of the benchmark: alignvid bench run, judge, measure, score, report, audit."""

from __future__ import annotations

import click

from alignvid.cli.bench_audit import audit
from alignvid.cli.bench_judge import judge
from alignvid.cli.bench_measure import measure
from alignvid.cli.bench_report import report
from alignvid.cli.bench_run import run
from alignvid.cli.bench_score import score
from alignvid.cli.terminal import examples


@click.group(epilog=examples("alignvid bench --help", "alignvid bench measure --help"))
def bench() -> None:
    """Compare variants on a benchmark: run, judge, measure, score, report."""


for command in (run, judge, measure, score, report, audit):
    bench.add_command(command)
