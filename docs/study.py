"""The study on the miniature: run it, and write docs/study.md and its picture from the records.

    python docs/study.py run FOLDER [--development 24] [--claim 60]    so many scenes of each half; resumes, and grows
    python docs/study.py page FOLDER                                   tables and picture from the records alone

Recipes are compared on the development half of OmitShapes, and claims are made on the other half.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from study_plan import ALIGNVID, BASELINE, CURVES, HALVES, METRICS, SEEDS, STRENGTHS, TRENDS

HERE = Path(__file__).parent
PAGE, PICTURE = HERE / "study.md", HERE / "images" / "study"
HEADINGS = ("edit shown", "rest untouched", "both")
BATCH = 12
SCENES = {"development": 24, "claim": 60}
"""How many of each half are run unless told otherwise."""
MARK = "<!-- written by docs/study.py from here on -->"
LABEL: Any = {"textcoords": "offset points", "xytext": (0, 6), "ha": "center", "fontsize": 7, "weight": "bold"}
LOWEST = 60.0
"""Share left untouched, in per cent, below which a way is named and not drawn: it would press the rest together."""
CLEAR = 0.05  # a p-value above it shows nothing


class Rates(NamedTuple):
    """One half's values."""

    samples: int
    seeds: int
    facts: str
    """When and with which weights the videos were made."""
    values: dict[str, dict[str, np.ndarray]]
    """By variant and metric: one number per sample, its seeds averaged."""


def run(folder: Path, scenes: Mapping[str, int]) -> None:
    """Make and measure the first so many scenes of each half, as far as they are not there."""
    from alignvid.bench.metrics import measure_run
    from alignvid.bench.run_folder import RunFolder
    from alignvid.bench.runs.running import run as run_bench
    from alignvid.bench.runs.spec import BenchSpec

    for half, variants in HALVES.items():
        spec: Any = {"data": "omitshapes", "half": half, "variants": variants, "seeds": SEEDS, "batch": BATCH}
        spec["limit"] = scenes[half]
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
    facts = f"made from {info.created[:10]} on, the miniature's files {(info.model.get('digest') or '')[:12]}"
    return Rates(len(whole), len(info.seeds), facts, values)


def rate_table(rates: Rates) -> str:
    from alignvid.bench.scoring.statistics import SHARE, mean, paired

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
    from alignvid.bench.scoring.statistics import paired

    lines = [f"| {variant} minus | {' | '.join(HEADINGS)} | p (both) |", "|---|---|---|---|---|"]
    for other in (name for name in rates.values if name != variant):
        found = [
            paired(rates.values[other][metric], rates.values[variant][metric], np.ones(rates.samples))
            for metric in METRICS
        ]
        cells = [_percent(gain.difference, sign="+") for gain in found]
        lines.append(f"| {other} | {' | '.join(cells)} | {_p(found[-1].p)} |")
    return "\n".join(lines)


def bracket(development: Rates, strengths: tuple[str, ...]) -> tuple[str, str]:
    """The two neighbouring strengths between which a way leaves as much untouched as AlignVid does, the strongest such
    pair; the baseline is strength nought. The strongest one twice, if it never disturbs that much.
    """
    untouched = {name: metrics[METRICS[1]].mean() for name, metrics in development.values.items()}
    pairs = [*itertools.pairwise((BASELINE, *strengths))]
    fitting = [pair for pair in pairs if untouched[pair[0]] >= untouched[ALIGNVID] >= untouched[pair[1]]]
    return fitting[-1] if fitting else (strengths[-1], strengths[-1])


def equal_table(development: Rates, claim: Rates) -> str:
    """AlignVid against each other way where both leave the same share untouched."""
    from scipy import stats

    from alignvid.bench.scoring.statistics import Estimate

    lines = [
        "| way | weaker; stronger | share of the stronger | edits shown | rest untouched | AlignVid minus it, edits |",
        "|---|---|---|---|---|---|",
    ]
    own = [claim.values[ALIGNVID][metric] for metric in METRICS[:2]]
    for way, strengths in STRENGTHS.items():
        weaker, stronger = bracket(development, strengths)
        arrays: Any = [*own, *(claim.values[name][metric] for name in (weaker, stronger) for metric in METRICS[:2])]
        drawn = {"paired": True, "vectorized": True, "n_resamples": 9_999, "batch": 1_000, "rng": 0}
        found = stats.bootstrap(arrays, _lead, **drawn, method="BCa").confidence_interval
        share, shown, untouched = (float(part) for part in _mixed(*arrays))
        lead = _percent(Estimate(float(_lead(*arrays)), found.low, found.high, claim.samples), sign="+")
        rates = " | ".join(f"{100 * rate:.1f}" for rate in (shown, untouched))
        lines.append(f"| {way} | {weaker}; {stronger} | {share:.2f} | {rates} | {lead} |")
    return "\n".join(lines)


def _mixed(
    shown: Any,
    untouched: Any,
    weak_shown: Any,
    weak_untouched: Any,
    strong_shown: Any,
    strong_untouched: Any,
    axis: int = -1,
) -> Any:
    """Share of the stronger one in a mixture of two strengths that leaves as much untouched as AlignVid, as nearly as a
    mixture can; and the mixture's two rates.
    """
    target, weak, strong = (np.mean(values, axis=axis) for values in (untouched, weak_untouched, strong_untouched))
    gap = np.where(weak == strong, np.inf, weak - strong)
    share = np.clip((weak - target) / gap, 0.0, 1.0)
    parts = ((weak_shown, strong_shown), (weak_untouched, strong_untouched))
    return share, *((1 - share) * np.mean(one, axis=axis) + share * np.mean(two, axis=axis) for one, two in parts)


def _lead(*arrays: Any, axis: int = -1) -> Any:
    """By how much AlignVid shows more edits than the mixture."""
    return np.mean(arrays[0], axis=axis) - _mixed(*arrays, axis=axis)[1]


def trend_table(rates: Rates) -> str:
    from alignvid.bench.scoring.statistics import paired

    lines = ["| the paper's trend | here | difference, paired | p |", "|---|---|---|---|"]
    for words, higher, lower, metric in TRENDS:
        found = paired(rates.values[lower][metric], rates.values[higher][metric], np.ones(rates.samples))
        is_clear = found.p is not None and found.p <= CLEAR
        sign = found.difference.value or 0.0
        verdict = "not seen" if not is_clear else "**seen**" if sign > 0 else "**opposite**"
        lines.append(f"| {words} | {verdict} | {_percent(found.difference, sign='+')} | {_p(found.p)} |")
    return "\n".join(lines)


def picture(rates: Rates) -> None:
    """Trade-off: what each way gains in edits against what it leaves alone, from the baseline to its strongest."""
    from alignvid.plots.saving import save_figure
    from alignvid.plots.style import PENS, describe, drawn, panels

    points = {variant: _point(metrics) for variant, metrics in rates.values.items()}
    ways = {way: [name for name in strengths if name in points] for way, strengths in STRENGTHS.items()}
    names = (BASELINE, ALIGNVID, *itertools.chain(*ways.values()))
    drawn_ways = {name: points[name] for name in names}
    seen = {name: point for name, point in drawn_ways.items() if point[1][0] >= LOWEST}
    others = [name for way, names in ways.items() if way not in CURVES for name in names if name in seen]
    left_out = [f"{name} at {up[0]:.0f} %" for name, (_, up) in drawn_ways.items() if name not in seen]

    @drawn
    def figure() -> Any:
        made, ((panel,),) = panels(1, 1)
        for across, up in seen.values():
            panel.errorbar(across[0], up[0], xerr=_arms(across), yerr=_arms(up), ecolor="0.9", elinewidth=0.7)
        for way, pen in zip(CURVES, PENS[1:], strict=False):
            line = [seen[name] for name in (BASELINE, *ways[way]) if name in seen]
            panel.plot(*zip(*[(across[0], up[0]) for across, up in line], strict=True), **pen.strokes, label=way)
        for number, name in enumerate(others, start=1):
            across, up = seen[name]
            panel.plot(across[0], up[0], "x", color="0.4", markersize=4, label=f"{number}  {name}")
            panel.annotate(str(number), (across[0], up[0]), textcoords="offset points", xytext=(3, 2), fontsize=6)
        for name, words in ((BASELINE, "baseline"), (ALIGNVID, "preset")):
            across, up = points[name]
            panel.plot(across[0], up[0], **PENS[0].strokes)
            panel.annotate(words, (across[0], up[0]), **LABEL)
        panel.set_xlabel("edit shown, %")
        panel.set_ylabel("rest untouched, %")
        panel.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), fontsize=6.5)
        describe(
            made,
            f"Claim half of OmitShapes, n = {rates.samples} samples × {_seeds(rates)}. Along a curve a way grows "
            "stronger, from the baseline on; bars: 95 % intervals."
            + (f" Below the picture: {', '.join(left_out)}." if left_out else ""),
        )
        return made

    save_figure(figure(), PICTURE)


def _point(metrics: Mapping[str, np.ndarray]) -> tuple[tuple[float, float, float], ...]:
    """Edits shown and rest untouched, each with its interval."""
    from alignvid.bench.scoring.statistics import SHARE, mean

    return tuple(_in_percent(mean(metrics[metric], SHARE)) for metric in METRICS[:2])


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
        f"## Claims: the other half\n\nn = {claim.samples} samples × {_seeds(claim)}, seeds averaged first; "
        f"{claim.facts}. 95 % BCa bootstrap intervals over samples; p by permutation.",
        rate_table(claim),
        against_table(claim, ALIGNVID),
        "### At an equal untouched rate\n\n"
        "Each way at the two neighbouring strengths between which, on the development half, it leaves as much "
        "untouched as `alignvid` (the baseline is strength nought). Here some of the clips are taken from the stronger "
        "one and the others from the weaker one, so that the share left untouched is that of `alignvid`, as nearly as "
        "can be; each bootstrap draw finds anew how many.",
        equal_table(development, claim),
        "![Edits shown against the rest untouched, by variant](images/study.svg)",
        f"## Choices: the development half\n\nn = {development.samples} samples × {_seeds(development)}; "
        f"{development.facts}.",
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "page"))
    parser.add_argument("folder", type=Path)
    for half, scenes in SCENES.items():
        parser.add_argument(f"--{half}", type=int, default=scenes)
    given = parser.parse_args()
    if given.command == "run":
        run(given.folder, {half: getattr(given, half) for half in SCENES})
    else:
        write_page(given.folder)


if __name__ == "__main__":
    main()
