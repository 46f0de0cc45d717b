"""The commands of a field trial: trial run, record, merge."""

from __future__ import annotations

import click

from alignvid.cli.terminal import examples
from alignvid.cli.trial_record import merge, record
from alignvid.cli.trial_run import run


@click.group(epilog=examples("alignvid trial run --help", "alignvid trial merge --help"))
def trial() -> None:
    """Find out in an evening, in a way that others believe, what AlignVid does to a model: docs/trial.md."""


for command in (run, record, merge):
    trial.add_command(command)
