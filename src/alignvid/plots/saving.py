"""A figure as SVG and PNG: the same bytes from the same figure, without a date, complete or not at all."""

from __future__ import annotations

import io
import re
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from alignvid.files import write_together
from alignvid.plots.style import drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_IDS = re.compile(r'(\bid="|\burl\(#|\bhref="#)')


class Saved(NamedTuple):
    """The two files of a figure."""

    svg: Path
    png: Path


def save_figure(figure: Figure, stem: str | Path) -> Saved:
    """Write `stem`.svg and `stem`.png together. Raises: OutputError if they cannot be written."""
    stem = Path(stem)
    contents = {f"{stem.name}.svg": svg_bytes(figure), f"{stem.name}.png": png_bytes(figure)}
    write_together(stem.parent, contents)
    return Saved(*(stem.parent / name for name in contents))


@drawn
def svg_bytes(figure: Figure) -> bytes:
    """The figure as an SVG file, with text as text."""
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None, "Description": str(figure.get_label())}
    figure.savefig(buffer, format="svg", metadata=metadata)
    return buffer.getvalue()


@drawn
def png_bytes(figure: Figure) -> bytes:
    """The figure as a PNG file, 200 pixels per inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def inline_svg(figure: Figure, name: str) -> str:
    """The figure as an element of an HTML page, with its caption as its text for who cannot see it.

    Args:
        figure: what to show.
        name: unique on the page; the names inside the picture begin with it.
    """
    text = svg_bytes(figure).decode()
    picture = _IDS.sub(rf"\g<1>{name}-", text[text.index("<svg") :])
    label = escape(str(figure.get_label()))
    return picture.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
