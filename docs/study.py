"""The study on the miniature: run it, and write docs/study.md and its picture from the records.

    python docs/study.py run FOLDER     both halves, measured, about an hour and a half on one core; goes on
    python docs/study.py page FOLDER    tables and picture from the records alone

Recipes are compared on the development half of OmitShapes, and claims are made on the other half.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).parent
PAGE, PICTURE = HERE / "study.md", HERE / "images" / "study"
METRICS = ("edit_shown", "rest_untouched", "edit_shown_rest_untouched")
HEADINGS = ("edit shown", "rest untouched", "both")
BASELINE = "baseline"
BATCH = 12
MARK = "<!-- written by docs/study.py from here on -->"
NEAR_THE_EDGE = 80  # percent; a label to the right of a point there would leave the picture
CLEAR = 0.05  # a p-value above it tells nothing

RELEASED = "released: preset=wan2.1-i2v-14b:released blocks=all"
PAPER = "paper: preset=wan2.1-i2v-14b:paper blocks=all"
ENERGY = "energy: kind=energy gamma=1.82 streams=text blocks=all steps=all"
GUIDANCE = ("guidance 2: guidance=2", "guidance 4: guidance=4", "gamma 1.35 guidance 2: gamma=1.35 guidance=2")
DEVELOPMENT = (
    *(BASELINE, "alignvid", RELEASED, PAPER),
    *(f"gamma {gamma}: gamma={gamma}" for gamma in ("1.1", "1.35", "1.82", "2.5")),
    "early: gamma=1.82 steps=0-0.3",
    "mid: gamma=1.82 steps=0.35-0.65",
    "late: gamma=1.82 steps=0.7-1.0",
    "first half: gamma=1.82 blocks=first-half",
    "last half: gamma=1.82 blocks=last-half",
    "foreground: gamma=1.82 blocks=1+5",
    "background: gamma=1.82 blocks=0+2+3+4",
    "image keys: gamma=1.82 streams=image",
    ENERGY,
    "conflict-aware: kind=conflict-aware blocks=all steps=all",
    "key blur: kind=key-blur blocks=all steps=all",
    "low-pass: kind=low-pass steps=0.0-0.3",
    *("input blur 1: blur=1", "input blur 2: blur=2"),
    *GUIDANCE,
)
CLAIM = (BASELINE, "alignvid", RELEASED, PAPER, ENERGY, *GUIDANCE)
HALVES: Mapping[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "development": (DEVELOPMENT, (0,)),
    "claim": (CLAIM, (0, 1, 2)),
}

Trend = tuple[str, str, str, str]
"""What the paper says, the variant that should be higher, the one that should be lower, and in which metric."""
TRENDS: tuple[Trend, ...] = (
    ("γ ↑ → fidelity ↑ (1.1 → 1.35)", "gamma 1.35", "gamma 1.1", METRICS[0]),
    ("γ ↑ → fidelity ↑ (1.35 → 1.82)", "gamma 1.82", "gamma 1.35", METRICS[0]),
    ("γ ↑ → fidelity ↑ (1.82 → 2.5)", "gamma 2.5", "gamma 1.82", METRICS[0]),
    ("γ ↑ → looks slowly ↓ (rest untouched, 1.35 → 1.82)", "gamma 1.35", "gamma 1.82", METRICS[1]),
    ("early > mid", "early", "mid", METRICS[0]),
    ("early > late", "early", "late", METRICS[0]),
    ("foreground > background blocks", "foreground", "background", METRICS[0]),
    ("foreground > last half", "foreground", "last half", METRICS[0]),
    ("first half > last half", "first half", "last half", METRICS[0]),
    ("scalar > energy in gain", "gamma 1.82", "energy", METRICS[0]),
    ("energy > scalar in looks (rest untouched)", "energy", "gamma 1.82", METRICS[1]),
    ("blur of the input raises fidelity", "input blur 2", BASELINE, METRICS[0]),
    ("blur of the input costs looks (rest untouched)", BASELINE, "input blur 2", METRICS[1]),
)


class Rates(NamedTuple):
    """One half's values."""

    samples: int
    seeds: int
    values: dict[str, dict[str, np.ndarray]]
    """By variant and metric: one number per sample, its seeds averaged."""


def run(folder: Path) -> None:
    from alignvid.bench.metrics import measure_run
    from alignvid.bench.run_folder import RunFolder
    from alignvid.bench.running import run as run_bench
    from alignvid.bench.spec import BenchSpec

    for half, (variants, seeds) in HALVES.items():
        spec: Any = {"data": "omitshapes", "half": half, "variants": variants, "seeds": seeds, "batch": BATCH}
        run_bench(BenchSpec(**spec), folder / half)
        measure_run(RunFolder(folder / half), METRICS, protocol="native", sources={})


def read(folder: Path) -> Rates:
    """Values of the samples that have a video of every variant and seed."""
    from alignvid.bench.run_folder import RunFolder

    opened = RunFolder(folder)
    info, cells = opened.info(), {row.job: row for row in opened.videos()}
    found: dict[tuple[str, str, str], list[float]] = {}
    for row in opened.metrics():
        if row.job in cells and row.value is not None:
            found.setdefault((cells[row.job].variant, row.metric, row.sample), []).append(row.value)
    whole = [
        sample.id
        for sample in opened.samples()
        if all(len(found.get((v, m, sample.id), ())) == len(info.seeds) for v in info.variant_names for m in METRICS)
    ]
    values = {
        variant: {metric: np.array([np.mean(found[variant, metric, name]) for name in whole]) for metric in METRICS}
        for variant in info.variant_names
    }
    return Rates(len(whole), len(info.seeds), values)


def rate_table(rates: Rates) -> str:
    from alignvid.bench.statistics import SHARE, mean, paired

    ones = np.ones(rates.samples)
    lines = [f"| variant | {' | '.join(HEADINGS)} | both, minus the baseline |", "|---|---|---|---|---|"]
    for variant, metrics in rates.values.items():
        cells = [_percent(mean(metrics[metric], SHARE)) for metric in METRICS]
        gain = paired(rates.values[BASELINE][METRICS[2]], metrics[METRICS[2]], ones)
        difference = "" if variant == BASELINE else f"{_percent(gain.difference, sign='+')}, p {_p(gain.p)}"
        lines.append(f"| {variant} | {' | '.join(cells)} | {difference} |")
    return "\n".join(lines)


def against_table(rates: Rates, variant: str) -> str:
    """What a variant gains over each other one, paired."""
    from alignvid.bench.statistics import paired

    lines = [f"| {variant} minus | {' | '.join(HEADINGS)} | p (both) |", "|---|---|---|---|---|"]
    for other in (name for name in rates.values if name != variant):
        found = [
            paired(rates.values[other][metric], rates.values[variant][metric], np.ones(rates.samples))
            for metric in METRICS
        ]
        cells = [_percent(gain.difference, sign="+") for gain in found]
        lines.append(f"| {other} | {' | '.join(cells)} | {_p(found[-1].p)} |")
    return "\n".join(lines)


def trend_table(rates: Rates) -> str:
    from alignvid.bench.statistics import paired

    lines = ["| the paper's trend | here | difference, paired | p |", "|---|---|---|---|"]
    for words, higher, lower, metric in TRENDS:
        found = paired(rates.values[lower][metric], rates.values[higher][metric], np.ones(rates.samples))
        is_clear = found.p is not None and found.p <= CLEAR
        sign = found.difference.value or 0.0
        verdict = "not seen" if not is_clear else "**seen**" if sign > 0 else "**opposite**"
        lines.append(f"| {words} | {verdict} | {_percent(found.difference, sign='+')} | {_p(found.p)} |")
    return "\n".join(lines)


def picture(rates: Rates) -> None:
    """Trade-off: what a variant gains in edits against what it leaves alone, with intervals."""
    from alignvid.bench.statistics import SHARE, mean
    from alignvid.plots.saving import save_figure
    from alignvid.plots.style import describe, drawn, panels

    @drawn
    def figure() -> Any:
        made, ((panel,),) = panels(1, 1)
        for variant, metrics in rates.values.items():
            across, up = (_in_percent(mean(metrics[metric], SHARE)) for metric in METRICS[:2])
            marker = "o" if variant == BASELINE else "s" if "guidance" in variant else "D"
            bars: Any = {"xerr": _arms(across), "yerr": _arms(up)}
            panel.errorbar(across[0], up[0], **bars, fmt=marker, color="black", ecolor="0.7", ms=4, elinewidth=0.8)
            side: Any = {"xytext": (-4, 3), "ha": "right"} if across[0] > NEAR_THE_EDGE else {"xytext": (4, 3)}
            panel.annotate(variant, (across[0], up[0]), textcoords="offset points", fontsize=6, **side)
        panel.set_xlabel("edit shown, %")
        panel.set_ylabel("rest untouched, %")
        describe(
            made, f"Claim half of OmitShapes, n = {rates.samples} samples × {_seeds(rates)}; bars: 95 % intervals."
        )
        return made

    save_figure(figure(), PICTURE)


def _in_percent(estimate: Any) -> tuple[float, float, float]:
    return 100 * estimate.value, 100 * estimate.low, 100 * estimate.high


def _arms(numbers: tuple[float, float, float]) -> list[list[float]]:
    """Lengths of an error bar below and above."""
    value, low, high = numbers
    return [[value - low], [high - value]]


def write_page(folder: Path) -> None:
    development, claim = read(folder / "development"), read(folder / "claim")
    picture(claim)
    head = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    parts = [
        head + MARK,
        f"## Claims: the other half\n\nn = {claim.samples} samples × {_seeds(claim)}, seeds averaged first. "
        "95 % BCa bootstrap intervals over samples; p by permutation.",
        rate_table(claim),
        against_table(claim, "alignvid"),
        "![Edits shown against the rest untouched, by variant](images/study.svg)",
        f"## Choices: the development half\n\nn = {development.samples} samples × {_seeds(development)}.",
        rate_table(development),
        f"## The paper's trends, on the development half\n\n“Not seen”: p above {CLEAR}, no correction over the rows.",
        trend_table(development),
    ]
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _seeds(rates: Rates) -> str:
    return f"{rates.seeds} noise seed{'s' * (rates.seeds > 1)}"


def _percent(estimate: Any, sign: str = "") -> str:
    if estimate.value is None:
        return "–"
    value, low, high = _in_percent(estimate)
    return f"{value:{sign}.1f} [{low:.1f}, {high:.1f}]"


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


if __name__ == "__main__":
    {"run": run, "page": write_page}[sys.argv[1]](Path(sys.argv[2]))
