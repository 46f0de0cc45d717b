"""How often the miniature follows its prompts: generate through the real pipeline, judge, keep one record per clip."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from diffusers import WanImageToVideoPipeline
from PIL import Image
from tqdm import tqdm

from alignvid.attachment.attach import attach
from alignvid.miniature.batches import BatchedImageToVideo, batched
from alignvid.miniature.drawing import Video, first_frame
from alignvid.miniature.judge import Judgement
from alignvid.miniature.prompts import evaluation_request
from alignvid.miniature.requests import Request, request_of
from alignvid.miniature.scenes import Scene, evaluation_scenes
from alignvid.miniature.strict import judge_scene
from alignvid.miniature.wordings import FormSet
from alignvid.recipe import Recipe

SCHEMA_VERSION = 1
DEFAULT_STEPS = 10
BATCH = 12


class Trial(NamedTuple):
    """A scene and the prompt that asks for its edit."""

    number: int
    scene: Scene
    prompt: str
    request: Request
    """What the prompt asks for; size and place count only where it says them."""


@dataclass(frozen=True)
class Variant:
    """One column of a comparison: a recipe or the baseline (None), and the sampling settings."""

    name: str
    recipe: Recipe | None
    steps: int = DEFAULT_STEPS
    guidance: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """What one generated clip showed."""

    variant: str
    noise_seed: int
    scene: int
    edit_kind: str
    prompt: str
    edit_shown: bool
    rest_untouched: bool
    reasons: tuple[str, ...]


def trials(seeds: range, count: int, form_set: FormSet = "trained") -> list[Trial]:
    """The first `count` scenes of a seed range with their prompts, balanced over kinds of edit."""
    scenes = evaluation_scenes(seeds, count)
    return [_trial(index, scene, seeds[index], form_set) for index, scene in enumerate(scenes)]


def _trial(number: int, scene: Scene, seed: int, form_set: FormSet) -> Trial:
    asked = evaluation_request(scene, seed, form_set)
    request = request_of(scene, says_size=asked.says_size, says_place=asked.says_place)
    return Trial(number, scene, asked.text, request)


def evaluate(
    pipeline: WanImageToVideoPipeline,
    cases: list[Trial],
    variant: Variant,
    *,
    noise_seed: int,
    records: Path | None = None,
) -> list[Outcome]:
    """Generate and judge every trial with one variant.

    With `records`, a JSON Lines file, each outcome is appended as it comes, and what the file holds is not made again.
    """
    done = {} if records is None else read_outcomes(records, variant, noise_seed)
    todo = [case for case in cases if case.number not in done]
    engine = batched(pipeline)
    with nullcontext() if variant.recipe is None else attach(engine, variant.recipe):  # it says the scale of guidance
        for first in tqdm(range(0, len(todo), BATCH), desc=f"{variant.name}, seed {noise_seed}", mininterval=10):
            made = _outcomes(engine, todo[first : first + BATCH], variant, noise_seed)
            if records is not None:
                _append(records, made)
            done |= {outcome.scene: outcome for outcome in made}
    return [done[case.number] for case in cases]


def made_again(pipeline: WanImageToVideoPipeline, cases: list[Trial], variant: Variant, noise_seed: int) -> list[Video]:
    """The clips that `evaluate` judges, one for each trial."""
    engine, starts = batched(pipeline), range(0, len(cases), BATCH)
    with nullcontext() if variant.recipe is None else attach(engine, variant.recipe):
        return [
            video for first in starts for video in _clips(engine, cases[first : first + BATCH], variant, noise_seed)
        ]


def _outcomes(engine: BatchedImageToVideo, cases: list[Trial], variant: Variant, noise_seed: int) -> list[Outcome]:
    videos = _clips(engine, cases, variant, noise_seed)
    judged = [judge_scene(video, case.scene, case.request) for case, video in zip(cases, videos, strict=True)]
    return [_outcome(case, judgement, variant, noise_seed) for case, judgement in zip(cases, judged, strict=True)]


def _clips(engine: BatchedImageToVideo, cases: list[Trial], variant: Variant, noise_seed: int) -> list[Video]:
    return engine.generate(
        [Image.fromarray(first_frame(case.scene)) for case in cases],
        [case.prompt for case in cases],
        [noise_seed * 1_000_003 + case.number for case in cases],  # the same noise for every variant: pairs
        steps=variant.steps,
        guidance=variant.guidance,
    )


def _outcome(case: Trial, judgement: Judgement, variant: Variant, noise_seed: int) -> Outcome:
    return Outcome(
        variant=variant.name,
        noise_seed=noise_seed,
        scene=case.number,
        edit_kind=case.scene.edit.kind,
        prompt=case.prompt,
        edit_shown=judgement.edit_shown,
        rest_untouched=judgement.rest_untouched,
        reasons=judgement.reasons,
    )


def _append(records: Path, outcomes: Iterable[Outcome]) -> None:
    with records.open("a") as file:
        file.writelines(
            json.dumps({"schema_version": SCHEMA_VERSION, **asdict(outcome)}) + "\n" for outcome in outcomes
        )


def read_outcomes(records: Path, variant: Variant, noise_seed: int) -> dict[int, Outcome]:
    """What a records file holds of a variant and a noise seed, by number of the scene."""
    if not records.exists():
        return {}
    rows = [json.loads(line) for line in records.read_text().splitlines()]
    for row in rows:
        del row["schema_version"]
        row["reasons"] = tuple(row["reasons"])
    outcomes = [Outcome(**row) for row in rows]
    return {o.scene: o for o in outcomes if (o.variant, o.noise_seed) == (variant.name, noise_seed)}
