"""Plots of scores as SVG, to stand in a page: intervals always shown, colours for colour-blind readers."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from alignvid.bench.scoring.scorecard import Scorecard
from alignvid.bench.scoring.scores import ALL, OVERALL, QUESTION_CATEGORY, Comparison
from alignvid.bench.scoring.statistics import Estimate
from alignvid.errors import MissingExtra
from alignvid.report.tables import MAIN_CATEGORY

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A8A8A", "#B8A800")
"""Okabe and Ito (2008); grey for its black and a darker yellow, which show on a dark ground and on a light one."""
_MARKERS = "osD^vPX*"
_TEXT, _LINE = "#010203", "#040506"
"""Colours that stand for the page's own, put in after drawing."""
_WIDTH_IN = 4.0
"""So that letters stay legible where the page is as wide as a phone."""
_LABEL_CHARACTERS = 17
_LEAST_GAIN = 5.0
"""Points to either side of 0 that an axis of gains always shows: half a point must not look like a leap."""
_BAND_IN = 0.17
"""Height of one variant within a group."""


@dataclass(frozen=True)
class Plot:
    """An SVG element and what it shows."""

    name: str
    svg: str
    caption: str


def plots(card: Scorecard) -> list[Plot]:
    """Accuracy by category, gains over the first variant, and what is traded for what."""
    found = [_plot("accuracy", "Accuracy in percent, with 95 % intervals.", lambda axes: _accuracy(card, axes), card)]
    if card.comparisons:
        caption = f"Points gained over {card.run.variants[0]}, paired, with 95 % intervals."
        found.append(_plot("gains", caption, lambda axes: _gains(card, axes), card))
    return found + _trade_offs(card)


def _plot(name: str, caption: str, draw: Callable[[Any], float], card: Scorecard) -> Plot:
    """Draw into new axes; `draw` returns the height in inches that its content needs."""
    figure_class, rc_context = _matplotlib()
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,
        "font.size": 9,
        "text.color": _TEXT,
        "axes.labelcolor": _TEXT,
        "xtick.color": _TEXT,
        "ytick.color": _TEXT,
        "axes.edgecolor": _LINE,
        "grid.color": _LINE,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with rc_context(style):
        figure = figure_class(layout="constrained")
        axes = figure.add_subplot()
        height = draw(axes)
        columns = min(3 if max(map(len, card.run.variants)) <= 12 else 1, len(card.run.variants))
        figure.legend(*_unique_labels(axes), loc="outside upper left", ncols=columns, frameon=False)
        legend_rows = -(-len(card.run.variants) // columns)
        figure.set_size_inches(_WIDTH_IN, height + 0.2 * legend_rows + 0.6)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Plot(name, _inline(buffer.getvalue(), name, caption), caption)


def _accuracy(card: Scorecard, axes: Any) -> float:
    groups = [(OVERALL, ALL), *((MAIN_CATEGORY, name) for name in card.group_names(MAIN_CATEGORY))]
    for index, variant in enumerate(card.run.variants):
        found = [card.score(variant, *group).accuracy for group in groups]
        _dots(axes, found, index, len(card.run.variants), variant)
    _percent_axis(axes.set_xlim, axes.set_xticks)
    return _finish(axes, groups, len(card.run.variants), "accuracy, %")


def _gains(card: Scorecard, axes: Any) -> float:
    dimensions = (OVERALL, MAIN_CATEGORY, QUESTION_CATEGORY)
    groups = [(dimension, name) for dimension in dimensions for name in card.group_names(dimension)]
    others = card.run.variants[1:]
    by_group = {(row.second, row.dimension, row.group): row for row in card.comparisons}
    for index, variant in enumerate(others):
        rows: list[Comparison] = [by_group[variant, *group] for group in groups]
        _dots(axes, [row.difference for row in rows], index, len(others), variant, color_index=index + 1)
    axes.axvline(0, color=_TEXT, linewidth=0.8)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -_LEAST_GAIN), max(high, _LEAST_GAIN))
    return _finish(axes, groups, len(others), "points gained")


def _dots(
    axes: Any, found: Sequence[Estimate], index: int, count: int, label: str, color_index: int | None = None
) -> None:
    style = _style(index if color_index is None else color_index)
    for place, one in enumerate(found):
        if one.value is None:
            continue
        y = place + (index - (count - 1) / 2) * 0.7 / max(count, 1)
        reach = (
            None
            if one.low is None or one.high is None
            else [[100 * (one.value - one.low)], [100 * (one.high - one.value)]]
        )
        axes.errorbar(100 * one.value, y, xerr=reach, label=label, **style)


def _finish(axes: Any, groups: Sequence[tuple[str, str]], count: int, label: str) -> float:
    names = ["all samples" if dimension == OVERALL else name for dimension, name in groups]
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    axes.tick_params(length=0)
    return len(names) * max(0.38, _BAND_IN * count + 0.1)


def _percent_axis(set_limits: Callable[[float, float], Any], set_ticks: Callable[[list[int]], Any]) -> None:
    """The whole range, so that a distance is as large as it is; a little more, so that no marker is cut."""
    set_limits(-3, 103)
    set_ticks([0, 25, 50, 75, 100])


def _trade_offs(card: Scorecard) -> list[Plot]:
    found = []
    categories = card.group_names(QUESTION_CATEGORY)
    if len(categories) > 1:
        asked = {
            name: card.score(card.run.variants[0], QUESTION_CATEGORY, name).counts.questions for name in categories
        }
        x, y = sorted(categories, key=lambda name: (-asked[name], name))[:2]
        caption = f"Videos with every question right: {x} against {y}, the two categories asked most."
        found.append(
            _scatter(card, "categories", caption, (f"{x}, %", _all_right(card, x)), (f"{y}, %", _all_right(card, y)))
        )
    accuracy = {variant: _scaled(card.score(variant).accuracy, 100) for variant in card.run.variants}
    for metric, protocol, settings in dict.fromkeys((row.metric, row.protocol, row.settings) for row in card.metrics):
        means = {
            row.variant: row.mean
            for row in card.metrics
            if (row.metric, row.protocol, row.settings) == (metric, protocol, settings)
        }
        caption = f"Accuracy against {metric}, protocol {protocol}, settings {settings[:8]}; right and up is better."
        name = f"{metric}-{protocol}-{settings[:8]}"
        found.append(_scatter(card, name, caption, ("accuracy, %", accuracy), (metric, means)))
    return found


def _all_right(card: Scorecard, category: str) -> dict[str, Estimate]:
    scores = {variant: card.score(variant, QUESTION_CATEGORY, category) for variant in card.run.variants}
    return {variant: _scaled(score.all_right, 100) for variant, score in scores.items()}


def _scatter(
    card: Scorecard, name: str, caption: str, x: tuple[str, dict[str, Estimate]], y: tuple[str, dict[str, Estimate]]
) -> Plot:
    def draw(axes: Any) -> float:
        for index, variant in enumerate(card.run.variants):
            across, up = x[1][variant], y[1][variant]
            if across.value is not None and up.value is not None:
                axes.errorbar(
                    across.value, up.value, xerr=_reach(across), yerr=_reach(up), label=variant, **_style(index)
                )
        _percent_axis(axes.set_xlim, axes.set_xticks)
        if "%" in y[0]:
            _percent_axis(axes.set_ylim, axes.set_yticks)
        elif (bottom := axes.get_ylim()[0]) > 0 or min(_lowest(y[1]), default=0.0) >= 0 > bottom:
            axes.set_ylim(bottom=0)  # a metric without negative values begins at nothing
        axes.set_xlabel(x[0].replace("_", " "))
        axes.set_ylabel(y[0].replace("_", " "))
        axes.grid(linewidth=0.4, alpha=0.5)
        axes.tick_params(length=0)
        return 2.6

    return _plot(name, caption, draw, card)


def _lowest(found: dict[str, Estimate]) -> list[float]:
    return [one.value if one.low is None else one.low for one in found.values() if one.value is not None]


def _reach(found: Estimate) -> list[list[float]] | None:
    if found.value is None or found.low is None or found.high is None:
        return None
    return [[found.value - found.low], [found.high - found.value]]


def _scaled(found: Estimate, factor: float) -> Estimate:
    values = [None if value is None else factor * value for value in (found.value, found.low, found.high)]
    return Estimate(*values, n=found.n)


def _style(index: int) -> dict[str, Any]:
    """Colour and shape of a variant: no two of the first 64 share both."""
    rounds, color = divmod(index, len(OKABE_ITO))
    marker = _MARKERS[(color + rounds) % len(_MARKERS)]
    return {"color": OKABE_ITO[color], "marker": marker, "markersize": 5, "linewidth": 1.4, "linestyle": "none"}


def _unique_labels(axes: Any) -> tuple[list[Any], list[str]]:
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    return list(handles.values()), list(handles)


def _short(name: str) -> str:
    """At most two lines of a label."""
    lines = textwrap.wrap(name.replace("_", " "), _LABEL_CHARACTERS)
    return "\n".join(lines if len(lines) <= 2 else [lines[0], f"{lines[1][: _LABEL_CHARACTERS - 1]}…"])


def _inline(svg: str, name: str, caption: str) -> str:
    """The element without its XML head, in the page's own colours and font, with ids of its own."""
    element = svg[svg.index("<svg") :]
    element = element.replace(_TEXT, "currentColor").replace(_LINE, "currentColor")
    element = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", element)
    element = re.sub(r'( id="|url\(#|href="#)', rf"\1{name}-", element)
    return element.replace("<svg ", f'<svg role="img" aria-label="{escape(caption)}" ', 1)


def _matplotlib() -> tuple[Any, Any]:
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra(f'Plots need matplotlib ({error}); install it: pip install "alignvid[plots]"') from error
    return Figure, rc_context
