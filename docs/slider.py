"""The slider on the miniature: run it, and write docs/follow.md's tables from the records.

    python docs/slider.py run FOLDER [--scenes 96] [--seeds 3] [--half claim]    clips, judged; resumes
    python docs/slider.py page FOLDER                                             tables from the records alone
    python docs/slider.py words FOLDER [--scenes 48] [--seeds 1]                  words against all text; resumes

Scenes of the development half choose; the claim half, held out, is reported. The stricter rule judge
(alignvid.miniature.strict) says what a clip shows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from alignvid import BlockSet, Emphasis, LogBias, Recipe, Scalar, StepWindow
from alignvid.bench.scoring.statistics import Estimate, holm, mean, paired
from alignvid.miniature import load_pipeline
from alignvid.miniature.evaluate import Outcome, Trial, Variant, evaluate, read_outcomes, trials
from alignvid.miniature.scenes import DEVELOPMENT, HELD_OUT
from alignvid.miniature.wordings import COLOUR_WORDS, NOUN_WORDS
from alignvid.models.reading.words import has_word
from alignvid.presets.follow import recipe_at

PAGE = Path(__file__).parent / "follow.md"
MARK = "<!-- written by docs/slider.py from here on -->"
PLACES = (-1.0, -0.66, -0.33, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
HALVES = {"development": DEVELOPMENT, "claim": HELD_OUT}
SETTINGS = ((10, 1.0),)
"""Denoising steps and guidance; other pairs are added on the command line."""
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
    plan = {"half": half, "scenes": scenes, "seeds": seeds, "settings": list(map(list, settings))}
    (folder / "plan.json").write_text(json.dumps(plan))
    for steps, guidance in settings:
        for seed in range(seeds):
            for place in PLACES:
                chosen = variant(place, steps, guidance)
                evaluate(pipeline, cases, chosen, noise_seed=seed, records=folder / "outcomes.jsonl")


def by_scene(folder: Path, chosen: Variant, rate: str, scenes: int, seeds: int) -> np.ndarray:
    """A rate of each scene, the mean over its seeds: clips of one scene are not independent."""
    found = [read_outcomes(folder / "outcomes.jsonl", chosen, seed) for seed in range(seeds)]
    return np.array([np.mean([RATES[rate](outcomes[scene]) for outcomes in found]) for scene in range(scenes)])


def percent(estimate: Estimate) -> str:
    low, high = (np.nan if bound is None else 100 * bound for bound in (estimate.low, estimate.high))
    return f"{100 * estimate.value:.0f} ({low:.0f} to {high:.0f})"  # type: ignore[operator]  # there is a scene


def page(folder: Path) -> None:
    """Write the tables behind the mark."""
    plan = json.loads((folder / "plan.json").read_text())
    scenes, seeds = plan["scenes"], plan["seeds"]
    parts = []
    for steps, guidance in plan["settings"]:
        values = {
            rate: [by_scene(folder, variant(place, steps, guidance), rate, scenes, seeds) for place in PLACES]
            for rate in RATES
        }
        adjusted = holm([paired(*pair, np.ones(scenes)).p for pair in pairwise(values["shown"])])
        rows = [
            f"| {place:+g} | {2**place:.2f} | "
            + " | ".join(percent(mean(values[rate][index], (0.0, 1.0))) for rate in RATES)
            + f" | {'' if index == 0 else _change(values['shown'], index, adjusted)} |"
            for index, place in enumerate(PLACES)
        ]
        parts.append(
            f"### {steps} steps, guidance {guidance:g}\n\n{scenes} scenes of the {plan['half']} half, {seeds} noise "
            f"seed{'s' if seeds > 1 else ''}; per cent of clips, 95 % interval over scenes.\n\n"
            "| follow | text keys × | edit shown | rest untouched | both | shown, against the place before |\n"
            "|---|---|---|---|---|---|\n" + "\n".join(rows)
        )
    before = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(f"{before}{MARK}\n\n" + "\n\n".join(parts) + "\n", encoding="utf-8")


def _change(values: Sequence[np.ndarray], index: int, adjusted: Sequence[float | None]) -> str:
    found = paired(values[index - 1], values[index], np.ones(len(values[index])))
    return f"{found.wins} scenes more, {found.losses} fewer; p {adjusted[index - 1]:.2g}"


WORDS = {
    "baseline": lambda words: None,
    "text x1.5": lambda words: _everywhere(Scalar(1.5, {"cross.text": 1.0})),
    "all words x1.5": lambda words: _everywhere(Scalar(1.5, {"cross.words": 1.0})),
    "all words, odds x4": lambda words: _everywhere(LogBias(4.0, {"cross.words": 1.0})),
    "the object x1.5": lambda words: _everywhere(Emphasis(dict.fromkeys(words, 1.5))),
    "the object x2": lambda words: _everywhere(Emphasis(dict.fromkeys(words, 2.0))),
    "the object, odds x4": lambda words: _everywhere(Emphasis(dict.fromkeys(words, 4.0), "odds")),
}
"""Recipes by name, from the words of the object that a prompt changes."""


def _everywhere(modulation: Scalar | LogBias | Emphasis) -> Recipe:
    return Recipe(modulation, BlockSet.of("all"), StepWindow.all())


def object_words(trial: Trial) -> list[str]:
    """The words of the changed object, as the prompt has them: its colours and its kind, before and after."""
    edit, shapes = trial.scene.edit, trial.scene.shapes
    changed = [shape for shape in (None if edit.target is None else shapes[edit.target], edit.result) if shape]
    forms = [word for shape in changed for word in (*COLOUR_WORDS[shape.colour], *NOUN_WORDS[shape.kind])]
    return [word for word in dict.fromkeys(forms) if has_word(trial.prompt, word)]


def words(folder: Path, half: str, scenes: int, seeds: int) -> None:
    """Emphasis on the changed object's words against the same on all words, scene by scene."""
    folder.mkdir(parents=True, exist_ok=True)
    pipeline, cases, records = load_pipeline(), trials(HALVES[half], scenes), folder / "words.jsonl"
    for name, recipe in WORDS.items():
        found: list[Outcome] = []
        for seed in range(seeds):
            for case in cases:
                chosen = Variant(name, recipe(object_words(case)))
                found += evaluate(pipeline, [case], chosen, noise_seed=seed, records=records)
        rates = [f"{key} {100 * np.mean([rate(outcome) for outcome in found]):.0f}" for key, rate in RATES.items()]
        print(f"{name}: {', '.join(rates)} (n {len(found)})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "page", "words"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--half", choices=tuple(HALVES), default="claim")
    parser.add_argument("--scenes", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--settings", default="10:1", help='steps:guidance with commas, such as "4:1,8:1,10:1,10:3"')
    given = parser.parse_args()
    pairs = [tuple(map(float, pair.split(":"))) for pair in given.settings.split(",")]
    if given.command == "run":
        run(given.folder, given.half, given.scenes, given.seeds, [(int(steps), scale) for steps, scale in pairs])
    elif given.command == "page":
        page(given.folder)
    else:
        words(given.folder, given.half, given.scenes, given.seeds)


if __name__ == "__main__":
    main()
