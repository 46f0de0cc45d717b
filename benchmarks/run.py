"""`make bench`: measurements as tables. Ratios are taken in one process, attached and not attached in turn.

`make bench ONLY=families` prints one table, `make bench ONLY="families wan"` one row of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table

import families
import measures
import modulations
import overhead
import ray_workers
import scoring
import sizes
import startup
import threads
import trips
from hosts import HOSTS


class Section(NamedTuple):
    title: str
    rows: Callable[[], Iterable[Any]]
    """Named tuples; their fields are the columns."""


SECTIONS = {
    "forward": Section("Attached / not attached, forward of the miniature's transformer", overhead.ratio_rows),
    "operations": Section("Tensor operations that an attachment adds", overhead.operation_rows),
    "families": Section("Attached / not attached, ten families, all blocks", families.family_rows),
    "sizes": Section(
        "Bytes that the generic preset moves at an active step, released sizes in bfloat16", sizes.size_rows
    ),
    "threads": Section("Two threads on one transformer, attached / not attached, wall time", threads.thread_rows),
    "modulations": Section("What an active step costs by kind of modulation, all blocks", modulations.rows),
    "measures": Section("Measuring attention: dense / ours, memory, observing", measures.rows),
    "trips": Section("Files of alignvid that one of each enters, by room", trips.trip_rows),
    "startup": Section("Start-up", startup.startup_rows),
    "demo": Section("The demo's sixteen videos", startup.demo_rows),
    "scoring": Section("Scores and report of a whole run", scoring.scoring_rows),
}
if find_spec("ray"):  # an extra of 200 MB
    SECTIONS["ray"] = Section("Workers on Ray", ray_workers.worker_rows)
BY_FAMILY = ("families", "sizes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", choices=[*SECTIONS, *HOSTS],
                        help=f"tables ({', '.join(SECTIONS)}) and families ({', '.join(HOSTS)})")  # fmt: skip
    only = parser.parse_args().only
    torch.set_num_threads(1)  # one thread: two on two busy cores wait for each other
    console = Console(width=160)
    for title, rows in chosen(only):
        shown(console, title, rows())


def chosen(only: list[str]) -> list[Section]:
    """The sections of these names; those by family, if families are named; all if nothing is."""
    hosts = [name for name in only if name in HOSTS]
    names = [name for name in only if name in SECTIONS] or (BY_FAMILY if hosts else SECTIONS)
    sections = {name: SECTIONS[name] for name in SECTIONS if name in names}
    if hosts:
        sections |= {
            name: section._replace(rows=partial(section.rows, hosts))
            for name, section in sections.items()
            if name in BY_FAMILY
        }
    return list(sections.values())


def shown(console: Console, title: str, rows: Iterable[Any]) -> None:
    table = None
    for row in rows:
        table = table or Table(*(name.replace("_", " ") for name in row._fields), title=title, title_justify="left")
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
