"""Bias and gain on the miniature's words: run mixtures, and write docs/words.md's tables from the records.

    python docs/mixtures.py run FOLDER --stage choose    development scenes: mixtures, by window and block; resumes
    python docs/mixtures.py run FOLDER --stage check     held-out scenes: what was chosen against the preset; resumes
    python docs/mixtures.py run FOLDER --stage object    held-out scenes: the changed object's words against all
    python docs/mixtures.py page FOLDER                  tables of the stages that are there

The stricter rule judge (alignvid.miniature.strict) says what a clip shows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alignvid import BlockSet, Emphasis, LogBias, Recipe, Scalar, StepWindow
from alignvid.bench.scoring.statistics import mean, paired
from alignvid.miniature import load_pipeline
from alignvid.miniature.evaluate import Trial, Variant, evaluate, trials
from alignvid.miniature.scenes import DEVELOPMENT, HELD_OUT
from alignvid.miniature.wordings import COLOUR_WORDS, NOUN_WORDS
from alignvid.models.reading.words import has_word
from alignvid.modulation import Modulation
from slider import RATES, by_scene, percent, read_rows

PAGE = Path(__file__).parent / "words.md"
MARK = "<!-- written by docs/mixtures.py from here on -->"
PRESET = "preset: text ×1.82"


def part(modulation: Modulation, blocks: str = "all", steps: str = "all") -> Recipe:
    return Recipe(modulation, BlockSet.of(blocks), StepWindow.of(steps))


def text(gain: float, **where: str) -> Recipe:
    return part(Scalar(gain, {"cross.text": 1.0}), **where)


def words(gain: float, **where: str) -> Recipe:
    return part(Scalar(gain, {"cross.words": 1.0}), **where)


def odds(factor: float, **where: str) -> Recipe:
    return part(LogBias(factor, {"cross.words": 1.0}), **where)


def both(*recipes: Recipe) -> Recipe:
    first, *others = recipes
    return Recipe(first.modulation, first.blocks, first.steps, first.branch, then=tuple(others))


EARLY, LATE, FIRST, LAST = {"steps": "0-0.5"}, {"steps": "0.5-1"}, {"blocks": "0-2"}, {"blocks": "3-5"}
CHOOSE: Mapping[str, Recipe | None] = {
    "baseline": None,
    PRESET: text(1.82),
    "text ×2.7": text(2.7),
    "words ×2.7": words(2.7),
    "odds ×4": odds(4),
    "odds ×8": odds(8),
    "text ×1.35, odds ×4": both(text(1.35), odds(4)),
    "text ×1.82, odds ×2": both(text(1.82), odds(2)),
    "text ×1.82, odds ×4 in the first half of the steps": both(text(1.82), odds(4, **EARLY)),
    "text ×1.82, odds ×4 in the second half of the steps": both(text(1.82), odds(4, **LATE)),
    "text ×1.82, odds ×4 in blocks 0-2": both(text(1.82), odds(4, **FIRST)),
    "text ×1.82, odds ×4 in blocks 3-5": both(text(1.82), odds(4, **LAST)),
    "text ×1.82 in the first half of the steps, odds ×8": both(text(1.82, **EARLY), odds(8)),
}
CHOSEN = "text ×1.82, odds ×4 in blocks 3-5"
"""By the development scenes, none of whose mixtures beats the preset in both; it shows the most."""
EMPHASES = {
    "×1.82": lambda chosen: Emphasis(dict.fromkeys(chosen, 1.82)),
    "odds ×4": lambda chosen: Emphasis(dict.fromkeys(chosen, 4.0), "odds"),
}


def object_words(trial: Trial) -> list[str]:
    """The words of the changed object, as the prompt has them: its colours and its kind, before and after."""
    edit, shapes = trial.scene.edit, trial.scene.shapes
    changed = [shape for shape in (None if edit.target is None else shapes[edit.target], edit.result) if shape]
    forms = [word for shape in changed for word in (*COLOUR_WORDS[shape.colour], *NOUN_WORDS[shape.kind])]
    return [word for word in dict.fromkeys(forms) if has_word(trial.prompt, word)]


class Stage(NamedTuple):
    """What is compared on which scenes; of each scene's own recipes there is no batch."""

    scenes: range
    recipes: Mapping[str, Recipe | None]
    by_trial: Mapping[str, Callable[[list[str]], Emphasis]]
    base: str
    title: str


STAGES = {
    "choose": Stage(DEVELOPMENT, CHOOSE, {}, PRESET, "Mixtures on development scenes"),
    "check": Stage(
        HELD_OUT,
        {name: CHOOSE[name] for name in (PRESET, CHOSEN)},
        {},
        PRESET,
        "On held-out scenes",
    ),
    "object": Stage(
        HELD_OUT,
        {"baseline": None, "all words ×1.82": words(1.82), "all words, odds ×4": odds(4)},
        {f"the object's words {name}": emphasis for name, emphasis in EMPHASES.items()},
        "baseline",
        "The changed object's words against all words",
    ),
}


def run(folder: Path, stage: Stage, records: Path, scenes: int, seeds: int) -> None:
    """Make and judge what the records lack."""
    folder.mkdir(parents=True, exist_ok=True)
    pipeline, cases = load_pipeline(), trials(stage.scenes, scenes)
    for seed in range(seeds):
        for name, recipe in stage.recipes.items():
            evaluate(pipeline, cases, Variant(name, recipe), noise_seed=seed, records=records)
        for name, emphasis in stage.by_trial.items():
            for case in cases:
                recipe = part(emphasis(object_words(case)))
                evaluate(pipeline, [case], Variant(name, recipe), noise_seed=seed, records=records)


def table(stage: Stage, records: Path) -> str:
    rows = read_rows(records)
    names = [name for name in (*stage.recipes, *stage.by_trial) if any(row.variant == name for row in rows)]
    seeds = {row.noise_seed for row in rows if row.variant == names[-1]}
    base = by_scene(rows, stage.base, "both", seeds)
    lines = [
        f"| | edit shown, % | rest untouched, % | both, % | both, scenes more / fewer than {stage.base} |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        rates = " | ".join(percent(mean(by_scene(rows, name, rate, seeds), (0.0, 1.0))) for rate in RATES)
        found = paired(base, by_scene(rows, name, "both", seeds), np.ones(len(base)))
        change = "" if name == stage.base else f"{found.wins} / {found.losses}, p {found.p:.2g}"
        lines.append(f"| {name} | {rates} | {change} |")
    noises = "one noise seed" if len(seeds) == 1 else f"{len(seeds)} noise seeds"
    return (
        f"### {stage.title}\n\n{len(base)} scenes, {noises}, 10 steps, guidance 1; 95 % interval over scenes; p "
        "is not adjusted for the number of rows.\n\n" + "\n".join(lines)
    )


def page(folder: Path) -> None:
    """Write the tables behind the mark."""
    there = {name: folder / f"{name}.jsonl" for name in STAGES if (folder / f"{name}.jsonl").exists()}
    parts = [table(STAGES[name], records) for name, records in there.items()]
    before = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(f"{before}{MARK}\n\n" + "\n\n".join(parts) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "page"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stage", choices=tuple(STAGES), default="choose")
    parser.add_argument("--scenes", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    if given.command == "run":
        run(given.folder, STAGES[given.stage], given.folder / f"{given.stage}.jsonl", given.scenes, given.seeds)
    else:
        page(given.folder)


if __name__ == "__main__":
    main()
