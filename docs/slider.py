"""The slider on the miniature: run it, and write docs/follow.md's tables from the records.

    python docs/slider.py run FOLDER [--scenes 96] [--seeds 3] [--half claim]    clips, judged; resumes
    python docs/slider.py page FOLDER                                             tables from the records alone

Scenes of the development half choose; the claim half, held out, is reported. The stricter rule judge
(alignvid.miniature.strict) says what a clip shows.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from alignvid.bench.scoring.statistics import Estimate, holm, mean, paired
from alignvid.generate.identity import folder_digest
from alignvid.miniature import load_pipeline, weights_folder
from alignvid.miniature.evaluate import Outcome, Variant, evaluate, trials
from alignvid.miniature.scenes import DEVELOPMENT, HELD_OUT
from alignvid.modulation import Scalar
from alignvid.presets.follow import recipe_at

PAGE = Path(__file__).parent / "follow.md"
MARK = "<!-- written by docs/slider.py from here on -->"
PLACES = (-1.0, -0.5, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
HALVES = {"development": DEVELOPMENT, "claim": HELD_OUT}
ALL_SETTINGS = ((4, 1.0), (8, 1.0), (10, 1.0), (4, 3.0), (10, 3.0))
"""Denoising steps and guidance."""
RATES = {
    "shown": lambda outcome: outcome.edit_shown,
    "untouched": lambda outcome: outcome.rest_untouched,
    "both": lambda outcome: outcome.edit_shown and outcome.rest_untouched,
}


def variant(place: float, steps: int, guidance: float) -> Variant:
    return Variant(f"follow {place:+g}, {steps} steps, guidance {guidance:g}", recipe_at(place, "wan"), steps, guidance)


def run(folder: Path, half: str, scenes: int, seeds: int, settings: Sequence[tuple[int, float]]) -> None:
    """Make and judge what the records lack, place by place."""
    folder.mkdir(parents=True, exist_ok=True)
    pipeline, cases = load_pipeline(), trials(HALVES[half], scenes)
    plan = {"half": half, "scenes": scenes, "weights": folder_digest(weights_folder())}
    (folder / "plan.json").write_text(json.dumps(plan))
    for steps, guidance in settings:
        for seed in range(seeds):
            for place in PLACES:
                chosen = variant(place, steps, guidance)
                evaluate(pipeline, cases, chosen, noise_seed=seed, records=folder / "outcomes.jsonl")


def seeds_of(rows: Sequence[Outcome], steps: int, guidance: float, scenes: int) -> list[int]:
    """Noise seeds of which every scene is there at every place."""
    names = [variant(place, steps, guidance).name for place in PLACES]
    counts = Counter((row.variant, row.noise_seed) for row in rows)
    return [
        seed
        for seed in range(1 + max(row.noise_seed for row in rows))
        if all(counts[name, seed] == scenes for name in names)
    ]


def by_scene(rows: Sequence[Outcome], name: str, rate: str, seeds: Collection[int]) -> np.ndarray:
    """A rate of each scene, the mean over its seeds: clips of one scene are not independent."""
    found: dict[int, list[bool]] = {}
    for row in rows:
        if row.variant == name and row.noise_seed in seeds:
            found.setdefault(row.scene, []).append(RATES[rate](row))
    return np.array([np.mean(found[scene]) for scene in sorted(found)])


def read_rows(records: Path) -> list[Outcome]:
    rows = [json.loads(line) for line in records.read_text().splitlines()]
    return [Outcome(**{name: value for name, value in row.items() if name != "schema_version"}) for row in rows]


def percent(estimate: Estimate) -> str:
    low, high = (np.nan if bound is None else 100 * bound for bound in (estimate.low, estimate.high))
    return f"{100 * estimate.value:.0f} ({low:.0f} to {high:.0f})"  # type: ignore[operator]  # there is a scene


def page(folder: Path) -> None:
    """Write the tables behind the mark: of every setting, the seeds that are there whole."""
    plan, rows = json.loads((folder / "plan.json").read_text()), read_rows(folder / "outcomes.jsonl")
    parts = []
    for steps, guidance in ALL_SETTINGS:
        if seeds := seeds_of(rows, steps, guidance, plan["scenes"]):
            parts.append(
                f"### {steps} steps, guidance {guidance:g}\n\n{plan['scenes']} scenes of the {plan['half']} half, "
                f"{len(seeds)} noise seed{'s' if len(seeds) > 1 else ''}; per cent of clips, 95 % interval over "
                f"scenes; weights {plan['weights'][:12]}.\n\n{table(rows, steps, guidance, seeds)}"
            )
    before = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(f"{before}{MARK}\n\n" + "\n\n".join(parts) + "\n", encoding="utf-8")


def table(rows: Sequence[Outcome], steps: int, guidance: float, seeds: Sequence[int]) -> str:
    values = {
        rate: [by_scene(rows, variant(place, steps, guidance).name, rate, seeds) for place in PLACES] for rate in RATES
    }
    adjusted = holm([paired(*pair, np.ones(len(pair[0]))).p for pair in pairwise(values["shown"])])
    lines = [
        "| follow | text keys × | edit shown | rest untouched | both | shown, against the place before |",
        "|---|---|---|---|---|---|",
    ]
    for index, place in enumerate(PLACES):
        rates = " | ".join(percent(mean(values[rate][index], (0.0, 1.0))) for rate in RATES)
        gain = _gain(place, guidance)
        lines.append(f"| {place:+g} | {gain:.2f} | {rates} | {_change(values['shown'], index, adjusted)} |")
    return "\n".join(lines)


def _gain(place: float, guidance: float) -> float:
    """On the text keys, as the run has it."""
    modulation = recipe_at(place, "wan").modulation
    is_shared = isinstance(modulation, Scalar) and modulation.shares_with_guidance
    return modulation.gamma ** (1 / guidance if is_shared else 1.0)


def _change(values: Sequence[np.ndarray], index: int, adjusted: Sequence[float | None]) -> str:
    if not index:
        return ""
    found = paired(values[index - 1], values[index], np.ones(len(values[index])))
    return f"{found.wins} scenes more, {found.losses} fewer; p {adjusted[index - 1]:.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "page"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--half", choices=tuple(HALVES), default="claim")
    parser.add_argument("--scenes", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--settings", default="4:1,8:1,10:1,4:3,10:3", help="steps:guidance with commas")
    given = parser.parse_args()
    pairs = [tuple(map(float, pair.split(":"))) for pair in given.settings.split(",")]
    if given.command == "run":
        run(given.folder, given.half, given.scenes, given.seeds, [(int(steps), scale) for steps, scale in pairs])
    else:
        page(given.folder)


if __name__ == "__main__":
    main()
