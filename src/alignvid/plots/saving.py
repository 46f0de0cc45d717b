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

_PAGE_COLOURS = {
    "fill: #ffffff": "fill: none",
    "#000000": "currentColor",
    "#333333": "currentColor",
    "#e3e3e3": "var(--line, #e3e3e3)",
}
"""Of ground, ink and grid: an inline picture has the page's own, so that it is dark where the page is."""
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
    """The figure as an element of an HTML page, in the page's colours, for the page to write its caption below.

    The caption (`figure.get_label()`) is in the element as text for who cannot see it.

    Args:
        figure: what to show; its caption is taken out of the picture.
        name: unique on the page; the names inside the picture begin with it.
    """
    figure.supxlabel("").set_in_layout(False)
    text = svg_bytes(figure).decode()
    picture = _IDS.sub(rf"\g<1>{name}-", text[text.index("<svg") :])
    for colour, of_page in _PAGE_COLOURS.items():
        picture = picture.replace(colour, of_page)
    label = escape(str(figure.get_label()))
    return picture.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
