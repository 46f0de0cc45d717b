"""The report of a benchmark: one folder with everything in it, opened from disk, moved or zipped as it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from alignvid.bench.audits.exact_file import ExactFacts
from alignvid.bench.records import VideoRecord
from alignvid.bench.scoring.scorecard import SCORES_JSON, Scorecard
from alignvid.bench.scoring.scores import DIMENSIONS, QUESTION_CATEGORY
from alignvid.errors import InputError, OutputError
from alignvid.files import sha256_of_file, writable_folder, write_together
from alignvid.report.exact import audit_tables
from alignvid.report.gallery import gallery_script, image_file, video_file
from alignvid.report.page import PAGE_FILE, part, template
from alignvid.report.plots import Plot, plots
from alignvid.report.scores_files import SCORES_CSV, SCORES_MD, score_files
from alignvid.report.tables import (
    NOTHING,
    dimension_label,
    metric_tables,
    percent,
    published_table,
    score_tables,
    sentences,
)

GALLERY_FILE = "gallery.js"
_MOST_NAMED = 3
_MOST_COLUMNS = 4
"""Variants that the gallery shows side by side at first; the others are chosen."""
_ANY = ("", "any")
_OUTCOMES = (
    _ANY,
    ("up", "a question turned right"),
    ("down", "a question turned not right"),
    ("unparsed", "a reply is unparsed"),
    ("failed", "an answer failed or was not asked"),
    ("missing", "a video is missing"),
)
_ORDERS = (("", "as in the data"), ("gains", "largest gains first"), ("losses", "largest losses first"))


class Report(NamedTuple):
    """What was written."""

    page: Path
    damaged: list[VideoRecord]
    """Videos whose file is not the one on record: named, not shown; the scores are of the one on record."""


def write_report(run: Path, out: Path, card: Scorecard, audit: ExactFacts | None = None) -> Report:
    """Write the report into a folder. Videos are hard links where the disk allows it.

    Args:
        run: The run's folder.
        out: The report's folder; made if it is missing, and overwritten file by file.
        card: The scores.
        audit: The rates of its judge on clips of known truth, to be shown beside the scores.

    Raises: OutputError if the folder cannot be written; InputError if a video or image of the run is gone;
    MissingExtra without matplotlib.
    """
    drawn = plots(card)  # first: it may lack its extra
    writable_folder(out)
    damaged: list[VideoRecord] = []
    for sample in card.run.samples:
        if sample.image_path is not None:
            _place(_existing(run / _inside(sample.image_path)), out / _inside(str(image_file(sample))))
    for video in (video for video in card.run.videos.values() if video.status == "done"):
        source, target = _existing(run / _inside(video.file or video_file(video))), out / _inside(video_file(video))
        if sha256_of_file(source) == video.sha256:
            _place(source, target)
        else:
            damaged.append(video)
            target.unlink(missing_ok=True)  # of an earlier report; it may be a link to the damaged file
    page = _page(card, drawn, damage(damaged), audit).encode()
    gallery = gallery_script(card.run, frozenset(video.job for video in damaged))
    write_together(out, {**score_files(card), GALLERY_FILE: gallery, PAGE_FILE: page})
    return Report(out / PAGE_FILE, damaged)


def damage(damaged: Sequence[VideoRecord]) -> list[str]:
    """What a reader must know of videos whose file is not the one on record; no sentence where there is none."""
    if not damaged:
        return []
    named = [f"{video.sample}, {video.variant}, seed {video.seed}" for video in damaged[:_MOST_NAMED]]
    more = f" and {len(damaged) - _MOST_NAMED} more" if len(damaged) > _MOST_NAMED else ""
    return [
        f"Damaged files of videos: {len(damaged)} ({'; '.join(named)}{more}). They are not shown, and their scores are "
        "of the videos on record; type the line of alignvid bench run again to make them anew, then report again."
    ]


def _inside(path: str) -> str:
    """The path, if it stays in its folder: a report is given away, and must not take other files along."""
    if os.path.isabs(path) or ".." in PurePath(path).parts:
        raise InputError(
            f"The records name {path!r}, which is outside the run's folder; mend samples.jsonl or the record."
        )
    return path


def _existing(source: Path) -> Path:
    if not source.is_file():
        raise InputError(f"{str(source)!r} is gone, and the records name it; put it back, or resume the run.")
    return source


def _place(source: Path, target: Path) -> None:
    """Link or copy one file, under its name only when it is whole; what is there already stays."""
    if target.exists() and os.path.samefile(source, target):
        return
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, unfinished)
        except OSError:  # another disk, or one without links
            shutil.copyfile(source, unfinished)
        os.replace(unfinished, target)
    except OSError as error:
        raise OutputError(
            f"Cannot write {str(target)!r}: {error.strerror}; choose another folder with --out."
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def _page(card: Scorecard, drawn: list[Plot], damage: list[str], audit: ExactFacts | None) -> str:
    found = (*audit_tables(card, audit), *score_tables(card), *metric_tables(card), published_table(card))
    tables = [table.without_empty() for table in found]
    return template("benchmark.html.jinja").render(
        title=f"Benchmark: {card.run.info.data.get('name')} on {card.run.info.model.get('name')}",
        sentences=[*sentences(card), *damage],
        counts=[(variant, *_count(card, variant)) for variant in card.run.variants],
        files=(SCORES_MD, SCORES_CSV, SCORES_JSON),
        plots=drawn,
        tables=tables,
        choices=list(_choices(card)),
        most_columns=_MOST_COLUMNS,
        style=part("page.css") + part("benchmark.css"),
        script=part("player.js") + part("benchmark.js"),
    )


def _count(card: Scorecard, variant: str) -> tuple[str, str]:
    """Accuracy for the header, and its interval."""
    value, _, interval = percent(card.score(variant).accuracy).partition(" ")
    return (value, "no answer") if value == NOTHING else (f"{value} %", f"right {interval}")


def _choices(card: Scorecard) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """Id, label and options of the gallery's selections."""
    for dimension in (name for name in DIMENSIONS if name != "overall"):
        label = "Asked about" if dimension == QUESTION_CATEGORY else dimension_label(dimension).capitalize()
        yield dimension, label, [_ANY, *((name, name) for name in card.group_names(dimension))]
    yield "outcome", "With", list(_OUTCOMES)
    others = list(enumerate(card.run.variants))[1:] or [(0, card.run.variants[0])]
    yield "against", f"Turned from {card.run.variants[0]} to", [(str(index), name) for index, name in others]
    yield "seed", "Seed", [(str(index), str(seed)) for index, seed in enumerate(card.run.seeds)]
    yield "order", "Order", list(_ORDERS)
