"""Figures of numbers that were measured elsewhere: foreground ratios by block, and a rate along γ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from alignvid.errors import PictureError
from alignvid.plots.style import PENS, describe, drawn, panels, sparse

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Estimate = tuple[float, float, float]
"""A value and the two ends of its interval."""

_KEPT, _LEFT_OUT, _EDGE = "#0072b2", "#ffffff", "#222222"
_INCHES_PER_BAR = 0.2


@drawn
def ratio_bars(ratios: Mapping[int, Estimate], *, tau: float, n: int, stack: str = "blocks") -> Figure:
    """The foreground ratio r(l) of each block with its interval; those above τ, which are kept, are filled.

    Args:
        ratios: by block.
        tau: the threshold.
        n: image and prompt pairs behind the ratios.
        stack: what the blocks are counted in.
    Raises: PictureError if there is no ratio, or one is not finite or lies outside its interval.
    """
    blocks = sorted(ratios)
    _check({f"block {block}": ratios[block] for block in blocks})
    figure, axes = panels(1, 1)
    figure.set_figwidth(max(figure.get_figwidth(), _INCHES_PER_BAR * len(blocks) + 1.2))
    panel = axes[0][0]
    handles: list[Any] = []
    for is_kept, colour, hatch in ((True, _KEPT, ""), (False, _LEFT_OUT, "////")):
        chosen = [block for block in blocks if (ratios[block][0] > tau) == is_kept]
        label = f"{'kept' if is_kept else 'left out'}: {len(chosen)}"
        heights = [ratios[block][0] for block in chosen]
        bars = panel.bar(chosen, heights, color=colour, edgecolor=_EDGE, linewidth=0.7, hatch=hatch, label=label)
        handles.append(bars)
    _error_bars(panel, ratios.items(), colour=_EDGE)
    handles.append(panel.axhline(tau, color="#d55e00", linestyle=(0, (5, 1.5)), label=f"τ = {tau:g}"))
    panel.set_ylim(0, max(1.0, *(ratios[block][2] for block in blocks)))
    panel.grid(visible=False, axis="x")
    panel.set_xlabel(f"block of `{stack}`")
    panel.set_ylabel("foreground ratio r(l)")
    panel.set_xticks(sparse(blocks))
    panel.set_xlim(blocks[0] - 0.7, blocks[-1] + 0.7)
    figure.legend(handles=handles, loc="outside upper left", ncols=3)
    describe(
        figure,
        "Share of the tokens with the highest attention that lie on the foreground, by block, "
        f"with 95 % intervals; n = {n} pairs of image and prompt.",
    )
    return figure


@drawn
def sweep_curve(rates: Mapping[str, Mapping[float, Estimate]], *, what: str, n: int) -> Figure:
    """A curve for each rate along γ, with intervals; γ has a logarithmic axis.

    Args:
        rates: for each curve's name, value and interval by γ; as shares from 0 to 1.
        what: label of the rate's axis, such as "share of clips".
        n: clips behind each point.
    Raises: PictureError if there is no rate, or one is not finite, lies outside its interval, or γ is not positive.
    """
    _check({f"{name} at γ {gamma:g}": value for name, curve in rates.items() for gamma, value in curve.items()})
    gammas = sorted({gamma for curve in rates.values() for gamma in curve})
    if gammas[0] <= 0:
        raise PictureError(f"γ is {gammas[0]:g} in a sweep; a gain is above 0.")
    figure, axes = panels(1, 1)
    panel = axes[0][0]
    for pen, (name, curve) in zip(PENS, rates.items(), strict=False):
        points = sorted(curve)
        _error_bars(panel, curve.items(), colour=pen.colour)
        panel.plot(points, [curve[gamma][0] for gamma in points], label=name, **pen.strokes)
    panel.set_xscale("log")
    panel.set_xlim(gammas[0] / 1.08, gammas[-1] * 1.08)
    panel.set_xticks(gammas, [f"{gamma:g}" for gamma in gammas])
    panel.minorticks_off()
    panel.set_xlabel("γ (factor on the logits; 1: none)")
    panel.set_ylabel(what)
    panel.set_ylim(0, 1)
    figure.legend(loc="outside upper left", ncols=len(rates), handlelength=3.2)
    describe(figure, f"{what[0].upper()}{what[1:]} along γ, with 95 % intervals; n = {n} at each γ.")
    return figure


def _error_bars(panel: Axes, estimates: Iterable[tuple[float, Estimate]], *, colour: str) -> None:
    places, values = zip(*estimates, strict=True)
    middles = [value for value, _, _ in values]
    reach = [[value - low for value, low, _ in values], [high - value for value, _, high in values]]
    panel.errorbar(places, middles, yerr=reach, fmt="none", ecolor=colour, elinewidth=0.9, capsize=2)


def _check(estimates: Mapping[str, Estimate]) -> None:
    if not estimates:
        raise PictureError("There is no number to draw; give at least one value with its interval.")
    for name, (value, low, high) in estimates.items():
        if not all(math.isfinite(number) for number in (value, low, high)) or not low <= value <= high:
            raise PictureError(
                f"The value of {name} is {value:g} [{low:g}, {high:g}]; give finite numbers, the value in its interval."
            )
