"""How commands speak: results to stdout, progress and warnings to stderr, JSON when asked."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
from importlib.util import find_spec
from typing import Any, TextIO

import click

from alignvid.fields import mended

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def examples(*commands: str) -> str:
    """The end of a help text; every line is a command that works from the repository's root."""
    return "\b\nExamples:\n" + "\n".join(f"  {command}" for command in commands)  # \b: click keeps the lines


def print_json(value: Any) -> None:
    """Print plain data as JSON."""
    click.echo(mended(json.dumps(value, indent=2, ensure_ascii=False)))


def say(text: str) -> None:
    """A line on stderr, for who watches; a run does not end because nobody can read it."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)  # click would write UTF-8 to a terminal that knows ASCII alone


def ready_streams() -> str | None:
    """Let stdout and stderr take any character, as an escape where their encoding lacks it.

    Returns why nothing can be said on stdout, if it is closed.
    """
    is_closed = sys.stdout is None
    sys.stdout = sys.stdout or open(os.devnull, "w")  # for as long as the process lives
    sys.stderr = sys.stderr or open(os.devnull, "w")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a TextIOWrapper
    return "Standard output is closed; let it lead somewhere, such as to /dev/null." if is_closed else None


def give_up_stdout() -> None:
    """Let what is still to be written to a stdout that takes no more go nowhere, so that Python ends in peace."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
    """Whether stderr is a terminal, where people watch."""
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
        say(f"warning: {' '.join(str(message).split())}")


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")
