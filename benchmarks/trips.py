"""Trips: which files of alignvid one attach, forward, observation, generation and benchmark job enter.

    python benchmarks/trips.py          the table, and every file by trip

A room is a file or folder directly under src/alignvid; a file is entered when one of its functions is called; an arrow
is a pair of rooms of which the first calls into the second, whatever library lies between. Each trip is made twice and
the second one is counted, so that imports are not.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table

import alignvid
from alignvid.bench.runs.running import run
from alignvid.bench.runs.spec import BenchSpec
from alignvid.generate import GenerationSpec, generate
from alignvid.miniature import load_pipeline
from overhead import ACTIVE, arguments_of_a_run, forward, run_pipeline

_PACKAGE = str(Path(alignvid.__file__).parent) + "/"
STEPS = 2


class Row(NamedTuple):
    trip: str
    rooms: str
    arrows: str
    files: str
    where: str


class Trip:
    """What was entered while it was followed, in every thread that began meanwhile."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.arrows: set[tuple[str, str]] = set()

    @property
    def rooms(self) -> list[str]:
        return sorted({room_of(file) for file in self.files})

    def note(self, frame: FrameType, event: str, argument: Any) -> None:
        """A profile function of Python."""
        if event != "call" or (file := file_of(frame)) is None:
            return
        self.files.add(file)
        caller = frame.f_back
        while caller is not None and file_of(caller) is None:
            caller = caller.f_back
        if caller is not None and (before := room_of(file_of(caller) or "")) != room_of(file):
            self.arrows.add((before, room_of(file)))

    def row(self, name: str) -> Row:
        counts = Counter(room_of(file) for file in self.files)
        where = ", ".join(f"{room} {count}" if count > 1 else room for room, count in sorted(counts.items()))
        return Row(name, str(len(counts)), str(len(self.arrows)), str(len(self.files)), where)


def file_of(frame: FrameType) -> str | None:
    """The file of a frame, from the package's folder on; None if it is not of alignvid, or a file that is imported."""
    code = frame.f_code
    if not code.co_filename.startswith(_PACKAGE) or code.co_name == "<module>":
        return None
    return code.co_filename.removeprefix(_PACKAGE)


def room_of(file: str) -> str:
    return file.partition("/")[0]


@contextmanager
def followed() -> Iterator[Trip]:
    trip = Trip()
    threading.setprofile(trip.note)
    sys.setprofile(trip.note)
    try:
        yield trip
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]  # None takes it off


def second_time(work: Callable[[int], Any]) -> Trip:
    """The second of two runs of some work, which is given 0 and 1."""
    work(0)
    with followed() as trip:
        work(1)
    return trip


def trips(folder: Path) -> dict[str, Trip]:
    """One of each kind, on the miniature."""
    pipeline = load_pipeline()
    step = forward(pipeline.transformer, arguments_of_a_run(pipeline), ACTIVE)
    image = str(Path(__file__).parents[1] / "examples" / "scene-1.png")
    spec = GenerationSpec(prompt="remove the red circle", image=image, steps=STEPS, gamma=1.35)
    bench = BenchSpec(data="omitshapes", variants=("alignvid",), limit=1, steps=STEPS)

    def attach(_: int) -> None:
        alignvid.attach(pipeline, gamma=1.35)
        sys.setprofile(None)  # detaching is another trip
        alignvid.detach(pipeline)

    def observe(_: int) -> None:
        with alignvid.observe(pipeline):
            run_pipeline(pipeline, STEPS)

    found = {"attach(pipe, gamma=1.35)": second_time(attach)}
    with alignvid.attach(pipeline, gamma=1.35):
        found["a forward in which it acts"] = second_time(lambda _: step())
    found[f"observe, {STEPS} steps"] = second_time(observe)
    found[f"generate, {STEPS} steps"] = second_time(lambda number: generate(spec, folder / f"generate-{number}"))
    found[f"bench run of one job, {STEPS} steps"] = second_time(lambda number: run(bench, folder / f"bench-{number}"))
    return found


def trip_rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [trip.row(name) for name, trip in trips(Path(folder)).items()]


def main() -> None:
    torch.set_num_threads(1)
    console = Console(width=160)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = trips(Path(folder))
    table = Table(*Row._fields)
    for name, trip in found.items():
        table.add_row(*trip.row(name))
    console.print(table)
    for name, trip in found.items():
        console.print(f"\n{name}", style="bold")
        console.print(" ".join(sorted(trip.files)), highlight=False)


if __name__ == "__main__":
    main()
