"""The commands of the benchmark: alignvid bench run, judge, measure, score, report, audit."""

from __future__ import annotations

import click

from alignvid.cli.bench_measure import measure
from alignvid.cli.terminal import examples


@click.group(epilog=examples("alignvid bench --help", "alignvid bench measure --help"))
def bench() -> None:
    """Compare variants on a benchmark: run, judge, measure, score, report."""


for command in (measure,):
    bench.add_command(command)
