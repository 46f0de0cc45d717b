"""The audit's page: one question at a time about one video, with nothing that shows variant, verdict or expectation."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment

from alignvid.bench.audits.audit import AnsweredQuestion
from alignvid.files import sha256_of_bytes, write_bytes

AUDIT_FILE = "audit.html"
_PIXEL_ART_BELOW = 160  # pixels in height; smaller clips are shown with hard pixel edges


def write_audit_page(folder: Path, items: Sequence[AnsweredQuestion]) -> Path:
    """Write the page as audit.html into the run's folder, beside the videos, and return its path."""
    path = folder / AUDIT_FILE
    write_bytes(path, render_audit_page(items).encode())
    return path


def render_audit_page(items: Sequence[AnsweredQuestion]) -> str:
    """The page as HTML. Every text in it is escaped."""
    shown = [
        {
            "job": item.job,
            "question": item.question.id,
            "text": item.question.question,
            "video": "/".join(quote(part) for part in Path(item.video).parts),
            "isPixelArt": (item.height or _PIXEL_ART_BELOW) < _PIXEL_ART_BELOW,
        }
        for item in items
    ]
    keys = "\n".join(f"{item.job} {item.question.id}" for item in items)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_part("audit.html.jinja")).render(
        items=shown,
        draw=sha256_of_bytes(keys.encode())[:16],  # answers are kept in the browser under this name
        style=_part("page.css") + _part("audit.css"),
        script=_part("audit.js"),
    )


def _part(name: str) -> str:
    return (files("alignvid.report") / name).read_text(encoding="utf-8")
