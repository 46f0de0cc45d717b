"""The page of a loop's attempts, each with what the judge said of it; written anew after every one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from alignvid.report.page import Page, Row, Verdict, write_page
from alignvid.report.rows import row_of_record

if TYPE_CHECKING:
    from alignvid.following import Answered, Attempt, Followed


class Attempted(NamedTuple):
    """Reported after each attempt of a loop."""

    id: str
    """Of the loop's run."""
    number: int
    text: str
    """What became of it."""


def write_attempts(folder: Path, attempts: Sequence[Attempt], followed: Followed | None = None) -> None:
    """Write index.html into the folder of a loop, the newest attempt first."""
    rows = tuple(_row(folder, attempt, followed) for attempt in reversed(attempts))
    lead = "Each attempt has new noise; the judge is asked after each." if followed is None else f"{followed}."
    write_page(folder, Page(title="Until it is followed", lead=lead, rows=rows))


def _row(folder: Path, attempt: Attempt, followed: Followed | None) -> Row:
    from alignvid.generate.record import read_record
    from alignvid.generate.run import ALIGNVID

    name = f"attempt-{attempt.number}"
    said = [_verdict(one) for one in attempt.answers]
    if attempt.is_still:
        said.append(Verdict("it stands still", False, f"no place changes by more than {attempt.motion:.1f} levels"))
    if followed is not None and followed.best is not None and followed.best.number == attempt.number:
        said.append(Verdict("the best", True))
    return row_of_record(read_record(folder / name), id=name, folder=name, verdicts={ALIGNVID: tuple(said)})


def _verdict(one: Answered) -> Verdict:
    return Verdict(f"{one.question.question} {one.says or 'no answer'}", one.is_right, one.answer.text or "")
