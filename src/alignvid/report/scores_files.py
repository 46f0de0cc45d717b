"""The files that hold scores: JSON for programs, CSV for tables, Markdown for people."""

from __future__ import annotations

from pathlib import Path

from alignvid.bench.scoring.scorecard import SCORES_JSON, Scorecard
from alignvid.files import write_together
from alignvid.report.long_table import csv_text
from alignvid.report.tables import markdown

SCORES_CSV, SCORES_MD = "scores.csv", "scores.md"


def score_files(card: Scorecard) -> dict[str, bytes]:
    """Content by name; the same records give the same bytes."""
    return {SCORES_CSV: csv_text(card).encode(), SCORES_MD: markdown(card).encode(), SCORES_JSON: card.to_json()}


def write_scores(folder: Path, card: Scorecard) -> list[Path]:
    """Write them into a folder, and return their paths: JSON, CSV, Markdown.

    Raises: OutputError if one cannot be written.
    """
    write_together(folder, score_files(card))
    return [folder / name for name in (SCORES_JSON, SCORES_CSV, SCORES_MD)]
