"""Figures of traces: a measure over blocks and steps as heat maps, as curves, and as the change between two runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from alignvid.analysis.facts import MEASURES
from alignvid.errors import PictureError
from alignvid.plots.intervals import Band, band, mean_without_nan
from alignvid.plots.runs import Grid, Runs, attentions, grid, title
from alignvid.plots.style import HEAT, PENS, UNKNOWN, Pen, describe, drawn, panels, sparse

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Axis = Literal["block", "step"]

_LABELS = {
    "entropy": "attention entropy (nats)",
    "normalised_entropy": "entropy / ln(keys)",
    "variance": "variance of logits",
    "slope": "dH/dγ (nats)",
    "energy": "mean q·k/√d (logits)",
    "mass": "share of attention",
    "pooled_mass": "share of attention, pooled",
}
_AXIS_LABELS = {"block": "block", "step": "denoising step, from 0"}
_OTHER = {"block": "steps", "step": "blocks"}


@drawn
def lines(runs: Runs, measure: str, *, along: Axis, query: str = "video") -> Figure:
    """A panel for each attention with a curve for each kind of run, along blocks or steps.

    Bands: 95 % bootstrap over samples; of a single sample, the range over the other axis.
    Raises: PictureError if there is nothing to draw.
    """
    found = attentions(runs, measure, query=query)
    figure, axes = panels(1, len(found))
    meanings = []
    for panel, attention in zip(axes[0], found, strict=True):
        panel.set_title(title(attention, found))
        panel.set_xlabel(_AXIS_LABELS[along])
        for pen, (label, traces) in zip(PENS, runs.items(), strict=False):
            cells = grid(traces, attention, measure)
            meanings.append(_draw_band(panel, pen, label, _labels(cells, along), _band(cells, along)))
    axes[0][0].set_ylabel(_LABELS[measure])
    if len(runs) > 1:
        _legend(figure, axes[0][0])
    describe(figure, f"{_what(measure)}, along {along}s. {_count(runs)}; {meanings[0]}.")
    return figure


@drawn
def heat_maps(runs: Runs, measure: str, *, query: str = "video") -> Figure:
    """A map of blocks and steps for each kind of run (rows) and attention (columns); a column has one scale.

    Raises: PictureError if there is nothing to draw.
    """
    found = attentions(runs, measure, query=query)
    figure, axes = panels(len(runs), len(found))
    for attention, column in zip(found, zip(*axes, strict=True), strict=True):
        image = _draw_heats(column, {label: grid(traces, attention, measure) for label, traces in runs.items()})
        column[0].set_title("\n".join([title(attention, found), column[0].get_title(loc="left")]).strip())
        column[-1].set_xlabel(_AXIS_LABELS["step"])
        figure.colorbar(image, ax=column, label=_LABELS[measure], location="bottom", aspect=30, pad=0.02)
    for row in axes:
        row[0].set_ylabel(_AXIS_LABELS["block"])
    describe(figure, f"{_what(measure)}, by block and step; grey: not recorded. {_count(runs)}.")
    return figure


@drawn
def change(runs: Runs, measure: str, *, along: Axis, query: str = "video") -> Figure:
    """What every other kind of run differs from the first by, sample by sample, along blocks or steps.

    The samples must stand in the same order in all kinds. Bands as for `lines`, of the differences.
    Raises: PictureError if there is nothing to draw.
    """
    found = attentions(runs, measure, query=query)
    figure, axes = panels(1, len(found))
    (first, before), *others = runs.items()
    meanings = []
    for panel, attention in zip(axes[0], found, strict=True):
        panel.set_title(title(attention, found))
        panel.set_xlabel(_AXIS_LABELS[along])
        panel.axhline(0, color=PENS[0].colour, linewidth=0.8)
        reference = grid(before, attention, measure)
        for pen, (label, traces) in zip(PENS[1:], others, strict=False):
            cells = _difference(reference, grid(traces, attention, measure))
            meanings.append(_draw_band(panel, pen, label, _labels(cells, along), _band(cells, along)))
    axes[0][0].set_ylabel(f"Δ {_LABELS[measure]}")
    _legend(figure, axes[0][0])
    what = f"Change against {first} at the same prompt, picture and noise: {MEASURES[measure]}, along {along}s"
    describe(figure, f"{what}. {_count(runs)}; {meanings[0]}.")
    return figure


def _draw_band(panel: Axes, pen: Pen, label: str, places: tuple[int, ...], values: Band) -> str:
    panel.fill_between(places, values.low, values.high, color=pen.colour, alpha=0.15, linewidth=0)
    panel.plot(places, values.middle, label=label, **pen.strokes)
    panel.set_xticks(sparse(places))
    return values.meaning


def _draw_heats(column: Sequence[Axes], cells: Mapping[str, Grid]) -> AxesImage:
    """Maps of one attention below each other, with one scale."""
    means = [mean_without_nan(item.values, 0) for item in cells.values()]
    limits = {"vmin": min(map(np.nanmin, means)), "vmax": max(map(np.nanmax, means))}
    images = []
    for panel, (label, item), mean in zip(column, cells.items(), means, strict=True):
        images.append(panel.imshow(mean, cmap=HEAT, aspect="auto", interpolation="nearest", origin="lower", **limits))
        panel.set_facecolor(UNKNOWN)
        panel.grid(visible=False)
        panel.set_title(label if len(cells) > 1 else "")
        for set_ticks, labels in ((panel.set_xticks, item.steps), (panel.set_yticks, item.blocks)):
            places = sparse(range(len(labels)))
            set_ticks(places, [str(labels[place]) for place in places])
    return images[-1]


def _difference(before: Grid, after: Grid) -> Grid:
    if before[:2] != after[:2] or before.values.shape != after.values.shape:
        raise PictureError("The runs differ in samples, blocks or steps; observe the same ones in each kind of run.")
    return Grid(before.blocks, before.steps, after.values - before.values)


def _band(cells: Grid, along: Axis) -> Band:
    values = cells.values if along == "block" else cells.values.swapaxes(1, 2)
    return band(values, rest=_OTHER[along])


def _labels(cells: Grid, along: Axis) -> tuple[int, ...]:
    return cells.blocks if along == "block" else cells.steps


def _legend(figure: Figure, panel: Axes) -> None:
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels), handlelength=3.2)


def _what(measure: str) -> str:
    text = MEASURES[measure]
    return f"{text[0].upper()}{text[1:]}" if not text.startswith("dH") else text


def _count(runs: Runs) -> str:
    counts = {label: len(traces) for label, traces in runs.items()}
    alike = set(counts.values())
    n = (
        f"n\u00a0=\u00a0{alike.pop()}"
        if len(alike) == 1
        else ", ".join(f"{label} n = {n}" for label, n in counts.items())
    )
    return f"Means over queries, heads and passes of guidance; {n} (prompt, picture and noise)"
