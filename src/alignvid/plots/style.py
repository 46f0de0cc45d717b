"""How every figure looks: legible in print, without colour, and for colour-blind readers.

Curves differ in colour (Okabe and Ito's palette), dash and marker at once; areas of one measure are cividis, which
grows evenly in lightness. Nothing of a user's matplotlibrc and nothing global of pyplot takes part.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from alignvid.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Parameters = ParamSpec("Parameters")
Drawn = TypeVar("Drawn")

PANEL_WIDTH, PANEL_HEIGHT = 2.9, 2.5  # inches
_LEAST_WIDTH = 4.6  # inches, so that a caption below a single panel has room
_CHARACTERS_PER_INCH = 17  # of the caption's font
_CAPTION_SIZE = 7.5  # points

HEAT = "cividis"
UNKNOWN = "#d9d9d9"
"""Grey of what was not recorded; it is no colour of cividis."""


class Pen(NamedTuple):
    """How one curve is distinguished from the others, by any of three features."""

    colour: str
    dash: str | tuple[int, tuple[float, ...]]
    marker: str
    is_filled: bool = False

    @property
    def strokes(self) -> dict[str, Any]:
        """Arguments of a plotted line. Hollow markers let one see what lies beneath."""
        inside = self.colour if self.is_filled else "none"
        return {"color": self.colour, "linestyle": self.dash, "marker": self.marker, "markerfacecolor": inside}


PENS = (
    Pen("#000000", "solid", "o", is_filled=True),
    Pen("#0072b2", (0, (5, 1.5)), "s"),
    Pen("#d55e00", (0, (1, 1.2)), "^"),
    Pen("#009e73", (0, (5, 1.5, 1, 1.5)), "D"),
    Pen("#cc79a7", (0, (3, 1, 1, 1, 1, 1)), "v"),
    Pen("#56b4e9", (0, (8, 2)), "P"),
)
"""By the order of the curves. Okabe and Ito, "Color Universal Design", 2008."""

_SETTINGS = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelsize": 8.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "figure.dpi": 100,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": 8.5,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markeredgewidth": 1.1,
    "lines.markersize": 5,
    "savefig.dpi": 200,
    "svg.fonttype": "none",  # text stays text: sharp, searchable, read aloud
    "svg.hashsalt": "alignvid",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib's defaults with our settings, inside the block.

    Raises: MissingExtra if matplotlib is not installed.
    """
    try:
        from matplotlib import style
    except ImportError as error:
        raise MissingExtra(f'Pictures need matplotlib ({error}): pip install "alignvid[plots]"') from error
    with style.context(["default", _SETTINGS]):
        yield


def drawn(function: Callable[Parameters, Drawn]) -> Callable[Parameters, Drawn]:
    """A function that draws or saves in the style of the house."""

    @wraps(function)
    def in_style(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Drawn:
        with house_style():
            return function(*args, **kwargs)

    return in_style


def panels(rows: int, columns: int) -> tuple[Figure, list[list[Axes]]]:
    """An empty figure of so many panels, and they, row by row."""
    from matplotlib.figure import Figure

    size = max(columns * PANEL_WIDTH, _LEAST_WIDTH), rows * PANEL_HEIGHT + 0.4
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    return figure, [list(row) for row in grid]


def describe(figure: Figure, caption: str) -> None:
    """Write the caption below the panels; it is also the figure's text for who cannot see it."""
    width = int(figure.get_figwidth() * _CHARACTERS_PER_INCH)
    figure.supxlabel(textwrap.fill(caption, width), x=0.01, ha="left", fontsize=_CAPTION_SIZE, color="#333333")
    figure.set_label(caption)


def sparse(labels: Sequence[int]) -> list[int]:
    """At most a dozen of the labels, evenly, for ticks."""
    return list(labels[:: -(-len(labels) // 12)])
