"""Held-out clips of the miniature, judged twice, and sheets of them to look at; writes docs/miniature.md's tables.

    python docs/held_out.py run FOLDER ARM … [--scenes N]   clips of some arms, judged; resumes
    python docs/held_out.py sheets FOLDER                   100 accepted, 100 refused clips of two arms, by a seed
    python docs/held_out.py page FOLDER                     tables from the records and from what the sheets showed

The stricter rule judge that knows the scene scores; the one that reads picture and prompt is asked beside it. Clips of
the first two arms are those of `alignvid.miniature.training.compare`, whose records lie in the folder, outcomes.jsonl.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from alignvid import BlockSet, Recipe, Scalar, StepWindow, attach, presets
from alignvid.bench.runs.sharing import Encodings
from alignvid.errors import InputError
from alignvid.miniature import load_pipeline, lora_folder
from alignvid.miniature.batches import batched
from alignvid.miniature.distilled import NAME as DISTILLED_NAME
from alignvid.miniature.drawing import Video, first_frame
from alignvid.miniature.evaluate import BATCH, DEFAULT_STEPS, Trial, trials
from alignvid.miniature.picture import Picture, known_ground, read_picture
from alignvid.miniature.requests import read_request
from alignvid.miniature.scenes import HELD_OUT
from alignvid.miniature.strict import judge_picture, judge_request, judge_scene

SCENES, SEEDS = 366, 3
OUTCOMES, VERDICTS = "outcomes.jsonl", "verdicts.jsonl"
FIELDS = ("noise_seed", "scene", "edit_kind", "edit_shown", "rest_untouched")
"""Of an outcome, in the order of a row's."""
GAMMA = 1.82


class Arm(NamedTuple):
    """How clips are made."""

    recipe: Callable[[], Recipe | None]
    steps: int = DEFAULT_STEPS
    guidance: float = 1.0
    is_distilled: bool = False


def _text() -> Recipe:
    return Recipe(Scalar(GAMMA, {"cross.text": 1.0}), BlockSet.of("all"), StepWindow.all())


def _of_distilled() -> Recipe:
    return presets.load(DISTILLED_NAME).recipe


BASELINE, PRESET, PAPER = "baseline", "preset", "paper"
GUIDED, DISTILLED, DISTILLED_PRESET = "guidance 3, 4 steps", "distilled", "distilled, preset"
COMPARED = {BASELINE: "baseline", PRESET: "gamma=1.82"}
"""Arms by what `compare` calls them in its records."""
FEW = (4, 8)
"""Denoising steps."""
ARMS = {
    BASELINE: Arm(lambda: None),
    PRESET: Arm(_text),
    PAPER: Arm(lambda: presets.load("miniature:paper").recipe),
    **{f"{BASELINE}, {steps} steps": Arm(lambda: None, steps) for steps in FEW},
    **{f"{PRESET}, {steps} steps": Arm(_text, steps) for steps in FEW},
    GUIDED: Arm(lambda: None, 4, guidance=3.0),
    DISTILLED: Arm(lambda: None, 4, is_distilled=True),
    DISTILLED_PRESET: Arm(_of_distilled, 4, is_distilled=True),
}


@dataclass(frozen=True)
class Row:
    """What the two judges say of one clip."""

    arm: str
    noise_seed: int
    scene: int
    edit_kind: str
    shown: bool
    untouched: bool
    asked_shown: bool | None = None
    """By the judge that reads picture and prompt; None: it was not asked, or refused (`cause`)."""
    asked_untouched: bool | None = None
    cause: str = ""
    """Where the two differ: what the second one read otherwise."""
    prompt: str = ""
    reasons: tuple[str, ...] = ()
    asked_reasons: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[int, int]:
        """What is the same in two arms that are paired."""
        return self.noise_seed, self.scene

    @property
    def agrees(self) -> bool:
        return (self.shown, self.untouched) == (self.asked_shown, self.asked_untouched)


def clips_of(pipeline: Any, cases: Sequence[Trial], arm: Arm, noise_seed: int) -> list[Video]:
    """Clips of an arm in one call, with the noise that `evaluate` gives them."""
    recipe = arm.recipe()
    with nullcontext() if recipe is None else attach(pipeline, recipe):
        return batched(pipeline).generate(
            [Image.fromarray(first_frame(case.scene)) for case in cases],
            [case.prompt for case in cases],
            [noise_seed * 1_000_003 + case.number for case in cases],
            steps=arm.steps,
            guidance=arm.guidance,
        )


def judged(name: str, noise_seed: int, case: Trial, clip: Video) -> Row:
    """Both verdicts on a clip."""
    known = judge_scene(clip, case.scene, case.request)
    row = Row(
        *(name, noise_seed, case.number, case.scene.edit.kind, known.edit_shown, known.rest_untouched),
        prompt=case.prompt,
        reasons=known.reasons,
    )
    try:
        asked = judge_picture(clip, first_frame(case.scene), case.prompt)
    except InputError as error:
        return replace(row, cause=f"refused: {error}")
    row = replace(row, asked_shown=asked.edit_shown, asked_untouched=asked.rest_untouched, asked_reasons=asked.reasons)
    return row if row.agrees else replace(row, cause=cause_of(case, clip, row))


def cause_of(case: Trial, clip: Video, row: Row) -> str:
    """Which of the things that the second judge reads makes the difference: the first that does so by itself."""
    scene, ground = case.scene, known_ground(case.scene.background)
    seen, request = read_picture(first_frame(scene)), read_request(case.prompt)
    swaps = {
        "the prompt": (Picture(scene.shapes, ground), request),
        "the shapes": (Picture(seen.shapes, ground), case.request),
        "the ground": (Picture(scene.shapes, seen.ground), case.request),
    }
    for name, (picture, asked) in swaps.items():
        try:
            found = judge_request(clip, picture, asked)
        except InputError:
            continue
        if (found.edit_shown, found.rest_untouched) == (row.asked_shown, row.asked_untouched):
            return name
    return "several together"


def run(folder: Path, names: Sequence[str], scenes: int) -> None:
    """Make and judge what the folder lacks of some arms, scene by scene, so that it may be stopped anywhere."""
    for is_distilled in (False, True):
        chosen = [name for name in names if ARMS[name].is_distilled == is_distilled]
        if chosen:
            run_on(load_pipeline(lora=lora_folder() if is_distilled else None), folder, chosen, scenes)


def run_on(pipeline: Any, folder: Path, names: Sequence[str], scenes: int) -> None:
    """The same for arms that one pipeline makes."""
    cases, encodings = trials(HELD_OUT, SCENES), Encodings(pipeline)
    done = {(row.arm, *row.key) for row in verdicts(folder)}
    with encodings.shared():  # of one batch of scenes, by all arms and seeds
        for first in range(0, scenes, BATCH):
            chunk = cases[first : first + BATCH]
            encodings.forget()
            for name, seed in product(names, range(SEEDS)):
                todo = [case for case in chunk if (name, seed, case.number) not in done]
                if todo:
                    make(folder, pipeline, name, todo, seed)
            print(first + len(chunk), flush=True)


def make(folder: Path, pipeline: Any, name: str, cases: Sequence[Trial], seed: int) -> dict[tuple[int, int], Video]:
    """Clips of these cases, judged; their rows are appended. Gives the clips by noise seed and scene."""
    clips = {}
    for first in range(0, len(cases), BATCH):
        chunk = cases[first : first + BATCH]
        found = clips_of(pipeline, chunk, ARMS[name], seed)
        judgements = [judged(name, seed, case, clip) for case, clip in zip(chunk, found, strict=True)]
        with (folder / VERDICTS).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in judgements)
        clips |= {row.key: clip for row, clip in zip(judgements, found, strict=True)}
    return clips


def verdicts(folder: Path) -> list[Row]:
    """What both judges said of clips that were made here."""
    return [
        Row(**{**line, "reasons": tuple(line["reasons"]), "asked_reasons": tuple(line["asked_reasons"])})
        for line in _lines(folder / VERDICTS)
    ]


def rows(folder: Path) -> dict[str, dict[tuple[int, int], Row]]:
    """Scoring verdicts by arm, noise seed and scene; those of `compare` count before a clip that was made again, since
    another batch may change a level of it.
    """
    names = {text: arm for arm, text in COMPARED.items()}
    compared = [
        Row(names[line["variant"]], *(line[field] for field in FIELDS))
        for line in _lines(folder / OUTCOMES)
        if line["variant"] in names
    ]
    found: dict[str, dict[tuple[int, int], Row]] = {}
    for row in (*verdicts(folder), *compared):
        found.setdefault(row.arm, {})[row.key] = row
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def main() -> None:
    import held_out_page
    import held_out_sheets

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "sheets", "page"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("arms", nargs="*", help=f"of {', '.join(ARMS)}")
    parser.add_argument("--scenes", type=int, default=SCENES, help="at most so many of each arm")
    given = parser.parse_args()
    if unknown := sorted(set(given.arms) - set(ARMS)):
        parser.error(f"{unknown[0]!r} is no arm; choose from {', '.join(ARMS)}")
    match given.command:
        case "run":
            run(given.folder, given.arms, given.scenes)
        case "sheets":
            held_out_sheets.write(given.folder)
        case "page":
            held_out_page.write(given.folder)


if __name__ == "__main__":
    main()
