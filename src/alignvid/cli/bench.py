"""The commands of the benchmark: alignvid bench run, judge, measure, score, report, audit."""

from __future__ import annotations

import click

from alignvid.cli.terminal import examples


@click.group(epilog=examples("alignvid bench --help"))
def bench() -> None:
    """Compare variants on a benchmark: run, judge, measure, score, report."""
