"""How commands speak: results to stdout, progress and warnings to stderr, JSON when asked."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import sys
import textwrap
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

import click

from alignvid.errors import ContractWarning
from alignvid.fields import mended

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def examples(*commands: str) -> str:
    """The end of a help text; every line is a command that works from the repository's root."""
    return "\b\nExamples:\n" + "\n".join(f"  {command}" for command in commands)  # \b: click keeps the lines


def next_line(*words: str | Path) -> None:
    """Print the command that comes next, so that it can be pasted into a shell, whatever its paths are called."""
    click.echo(f"Next: {shlex.join(['alignvid', *map(str, words)])}")


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """Say of a Ctrl-C inside the block that what was finished is kept."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Interrupted; what was finished is kept, and the same line makes the rest.") from None


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


def print_text(text: str) -> None:
    """Print a sentence, folded to a terminal."""
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    click.echo(textwrap.fill(text, room, break_on_hyphens=False, break_long_words=False))


_LEAST_FOLDED = 20  # columns, below which a folded text is a ladder


def print_table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print a table as plain lines; on a terminal too narrow for it the last column is folded, or each row is a block.

    No other cell is folded or cut, because names must be typed and numbers read.
    """
    widths = [max(len(cell) for cell in column) for column in zip(headings, *rows, strict=True)]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    before_last = sum(widths[:-1]) + 2 * (len(widths) - 1)
    if before_last + widths[-1] <= room:
        for row in (headings, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            click.echo("  ".join(cells).rstrip())
    elif room - before_last >= _LEAST_FOLDED:
        _print_folded(headings, rows)
    else:
        for row in rows:
            _print_block(row[0], [f"{heading} {cell}" for heading, cell in zip(headings, row, strict=True)][1:], room)


def _print_folded(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings[:-1]:
        table.add_column(heading, no_wrap=True)
    table.add_column(headings[-1], overflow="fold")
    for row in rows:
        table.add_row(*(_escaped(cell) for cell in row))
    Console(highlight=False).print(table)


def _print_block(title: str, cells: list[str], room: int) -> None:
    """A title, and below it all that belongs to it; a cell is broken only where it is longer than a line."""
    lines = [""]
    for cell in cells:
        joined = f"{lines[-1]}; {cell}" if lines[-1] else f"  {cell}"
        lines = [*lines[:-1], joined] if len(joined) < room else [*lines, f"  {cell}"]
    click.echo(title)
    for line in filter(None, lines):
        click.echo(textwrap.fill(line, room, subsequent_indent="    ", break_on_hyphens=False))


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
    if category is UserWarning or issubclass(category, ContractWarning):
        say(f"warning: {' '.join(str(message).split())}")


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")
