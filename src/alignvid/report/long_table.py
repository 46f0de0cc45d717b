"""Every number of a scorecard as one long table, a CSV file: for other people's plots and statistics."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from alignvid.bench.scoring.scorecard import Scorecard

_COLUMNS: tuple[str, ...] = (
    "table", "variant", "against", "dimension", "group", "metric", "protocol", "settings", "measure",
    "value", "low", "high", "n", "p", "p_holm", "wins", "ties", "losses", "left_out", "lower_limit", "margin",
    "is_not_inferior", "coverage", "bound_low", "bound_high", "yes_rate", "expected_yes_rate", "videos",
    "missing_videos", "questions", "right", "wrong", "unparsed", "failed", "unasked", "missing", "unmeasured", "stale",
)  # fmt: skip


def csv_text(card: Scorecard) -> str:
    """Every number as one long table; cells that do not apply are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(card.to_dict()))
    return text.getvalue()


def _rows(card: dict[str, Any]) -> Iterable[dict[str, Any]]:
    for score in card["scores"]:
        shared = {key: score[key] for key in ("variant", "dimension", "group")}
        details = {key: score[key] for key in ("coverage", "yes_rate", "expected_yes_rate")} | score["counts"]
        details |= dict(zip(("bound_low", "bound_high"), score["bounds"], strict=True))
        for measure in ("accuracy", "accuracy_of_videos", "all_right"):
            yield {"table": "score", **shared, "measure": measure, **_rounded(score[measure] | details)}
    for row in card["comparisons"]:
        row = {"variant": row.pop("second"), "against": row.pop("first"), **row.pop("difference"), **row}
        yield {"table": "comparison", "measure": "accuracy", **_rounded(row)}
    for row in card["metrics"]:
        yield {"table": "metric", "measure": "mean", **_rounded(row.pop("mean") | row)}
    for row in card["metric_comparisons"]:
        row = {"variant": row.pop("second"), "against": row.pop("first"), **row.pop("difference"), **row}
        yield {"table": "metric comparison", "measure": "mean", **_rounded(row)}


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {key: f"{value:.6f}" if isinstance(value, float) else value for key, value in row.items()}
