"""The report of a benchmark: one folder with everything in it, opened from disk, moved or zipped as it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePath

from alignvid.bench.scorecard import SCORES_JSON, Scorecard
from alignvid.bench.scores import DIMENSIONS, QUESTION_CATEGORY
from alignvid.errors import InputError, OutputError
from alignvid.files import writable_folder, write_together
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


def write_report(run: Path, out: Path, card: Scorecard) -> Path:
    """Write the report into a folder, and return the page's path. Videos are hard links where the disk allows it.

    Args:
        run: The run's folder.
        out: The report's folder; made if it is missing, and overwritten file by file.
        card: The scores.

    Raises: OutputError if the folder cannot be written; InputError if a video or image of the run is gone;
    MissingExtra without matplotlib.
    """
    drawn = plots(card)  # first: it may lack its extra
    writable_folder(out)
    for source, target in _media(card):
        _place(run / _inside(source), out / _inside(target))
    page = _page(card, drawn).encode()
    write_together(out, {**score_files(card), GALLERY_FILE: gallery_script(card.run), PAGE_FILE: page})
    return out / PAGE_FILE


def _media(card: Scorecard) -> Iterator[tuple[str, str]]:
    """Files by their paths in the run and in the report."""
    for sample in card.run.samples:
        yield sample.image_path, image_file(sample)
    for video in card.run.videos.values():
        if video.status == "done":
            yield video.file or video_file(video), video_file(video)


def _inside(path: str) -> str:
    """The path, if it stays in its folder: a report is given away, and must not take other files along."""
    if os.path.isabs(path) or ".." in PurePath(path).parts:
        raise InputError(
            f"The records name {path!r}, which is outside the run's folder; mend samples.jsonl or the record."
        )
    return path


def _place(source: Path, target: Path) -> None:
    """Link or copy one file, under its name only when it is whole; what is there already stays."""
    if not source.is_file():
        raise InputError(f"{str(source)!r} is gone, and the records name it; put it back, or resume the run.")
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


def _page(card: Scorecard, drawn: list[Plot]) -> str:
    tables = [*score_tables(card), *metric_tables(card), published_table(card)]
    return template("benchmark.html.jinja").render(
        title=f"Benchmark: {card.run.info.data.get('name')} on {card.run.info.model.get('name')}",
        sentences=sentences(card),
        counts=[(variant, *_count(card, variant)) for variant in card.run.variants],
        files=(SCORES_MD, SCORES_CSV, SCORES_JSON),
        plots=drawn,
        tables=tables,
        choices=list(_choices(card)),
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
