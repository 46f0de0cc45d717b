"""How commands speak: results to stdout, progress and warnings to stderr, JSON when asked."""

from __future__ import annotations

import json
import sys
import warnings
from importlib.util import find_spec
from typing import Any, TextIO

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def examples(*commands: str) -> str:
    """The end of a help text; every line is a command that works from the repository's root."""
    return "\b\nExamples:\n" + "\n".join(f"  {command}" for command in commands)  # \b: click keeps the lines


def print_json(value: Any) -> None:
    """Print plain data as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print a table: folded to the width of a terminal, or as plain lines for a pipe."""
    if not sys.stdout.isatty():
        widths = [max(len(cell) for cell in column) for column in zip(headings, *rows, strict=True)]
        for row in (headings, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            click.echo("  ".join(cells).rstrip())
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*headings, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(_escaped(cell) for cell in row))
    Console(highlight=False).print(table)


def shows_progress() -> bool:
    """Whether somebody watches stderr."""
    return sys.stderr.isatty()


def quiet_libraries() -> None:
    """Leave only our own voice: no bars and log lines of the libraries below, and warnings in one line each.

    On a terminal, bars are shown; but not those of transformers, which lie inside those of diffusers.
    """
    warnings.showwarning = _show_warning
    if not all(find_spec(name) for name in ("diffusers", "huggingface_hub", "transformers")):
        return  # some commands need none of them; the others say what is missing
    from diffusers.utils import logging as diffusers_logging
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging, hub_logging):
        library.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if not shows_progress():
        diffusers_logging.disable_progress_bar()


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Only warnings for users; those for developers (deprecations of libraries) are left out."""
    if category is UserWarning:
        click.echo(f"warning: {' '.join(str(message).split())}", err=True)


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")
