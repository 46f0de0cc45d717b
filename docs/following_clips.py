"""Clips of the miniature that policies of a loop draw on: made once, judged twice, kept as records.

An attempt's clip depends on scene, noise and set alone, so a policy is replayed from records (`following_policies`).
Every clip is judged by the rule that the loop asks, which reads picture and prompt, and by the one that scores, which
knows the scene. What the model expects as the end after each step is kept too, for previews.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from alignvid import Emphasis, LogBias, Recipe, attach
from alignvid.bench.data.halves import Half, half_of
from alignvid.bench.data.omitshapes import omitshapes, scene_of
from alignvid.bench.data.samples import Sample
from alignvid.bench.runs.jobs import noise_seed
from alignvid.bench.runs.loops import attempt_noise
from alignvid.following import PictureRule
from alignvid.following.motion import STILL_BELOW, motion
from alignvid.generate.guidance import guided_until
from alignvid.generate.identity import folder_digest
from alignvid.miniature import load_pipeline, weights_folder
from alignvid.miniature.batches import BatchedImageToVideo, batched
from alignvid.miniature.drawing import Video, first_frame
from alignvid.miniature.judge import judge

BATCH, STEPS = 12, 10
CLIPS, PREVIEWS, PLAN, ENDS = "clips.jsonl", "previews.jsonl", "plan.json", "ends"
PREVIEWED = (3, 4, 5, 6)
"""Steps after which a clip may be looked at."""


class Set(NamedTuple):
    """Clips made in one way: so many attempts of each scene."""

    recipe: Callable[[Any], Recipe | None]
    attempts: int
    guidance: float = 1.0
    guided_steps: int = STEPS
    """Steps with guidance, from the first one on, where there is any."""
    has_previews: bool = False
    is_rung: bool = False
    """Whether its later attempts are made only where the first one, or the preset's, was not right."""

    def forwards(self, steps: int = STEPS) -> int:
        """Of the transformer in the first so many steps."""
        return steps + (min(steps, self.guided_steps) if self.guidance > 1 else 0)


def _own(gamma: float | None = None, *then: Emphasis | LogBias) -> Callable[[Any], Recipe]:
    """The preset, at another γ, with more behind it."""

    def recipe(pipeline: Any) -> Recipe:
        with attach(pipeline, gamma=gamma) as attachment:
            own = attachment.recipe
        more = tuple(Recipe(one, own.blocks, own.steps, own.branch) for one in then)
        return Recipe(own.modulation, own.blocks, own.steps, own.branch, then=more)

    return recipe


SETS = {
    "plain": Set(lambda pipeline: None, 3),
    "guided": Set(lambda pipeline: None, 1, guidance=4.0),
    "preset": Set(_own(), 6, has_previews=True),
    "γ 2.4": Set(_own(2.4), 3, is_rung=True),
    "words": Set(_own(None, LogBias(2.0, {"cross.words": 1.0})), 3, is_rung=True),
    "guided first": Set(_own(), 3, guidance=4.0, guided_steps=3, is_rung=True),
}
"""By name; "words" multiplies the odds of the prompt's words by 2, all of which the asked judge's question has."""


@dataclass(frozen=True)
class Clip:
    """What the two judges say of one clip."""

    set: str
    scene: str
    seed: int
    attempt: int
    shown: bool
    """By the judge that scores."""
    untouched: bool
    asked_edit: bool
    """By the judge that the loop asks."""
    asked_rest: bool
    motion: float

    @property
    def both(self) -> bool:
        return self.shown and self.untouched

    @property
    def is_right(self) -> bool:
        """By the judge that the loop asks."""
        return self.asked_edit and self.asked_rest and self.motion >= STILL_BELOW

    @property
    def key(self) -> Key:
        return self.set, self.scene, self.seed, self.attempt


Key = tuple[str, str, int, int]
Table = Mapping[Key, Clip]


class Wanted(NamedTuple):
    sample: Sample
    seed: int
    attempt: int

    @property
    def noise(self) -> int:
        return attempt_noise(noise_seed(self.sample.id, self.seed), self.attempt)


def samples(half: Half, count: int) -> list[Sample]:
    return [sample for sample in omitshapes().samples if half_of(sample.id) == half][:count]


def run(folder: Path, half: Half, scenes: int, seeds: int, sets: Sequence[str], attempts: int) -> None:
    """Make and judge what the records lack, some scenes after others: when it is stopped, the first ones are whole."""
    (folder / ENDS).mkdir(parents=True, exist_ok=True)
    plan = {"half": half, "scenes": scenes, "seeds": seeds, "weights": folder_digest(weights_folder())}
    (folder / PLAN).write_text(json.dumps(plan))
    pipeline, done, chosen = load_pipeline(), read(folder), samples(half, scenes)
    recipes = {name: SETS[name].recipe(pipeline) for name in sets}
    for first, name in product(range(0, scenes, BATCH), sets):
        recipe, group = recipes[name], chosen[first : first + BATCH]
        with nullcontext() if recipe is None else attach(pipeline, recipe):
            for seed, attempt in product(range(seeds), range(1, 1 + min(SETS[name].attempts, attempts))):
                wanted = [Wanted(sample, seed, attempt) for sample in group]
                if missing := [one for one in wanted if not _is_done(done, name, one)]:
                    _make(folder, batched(pipeline), missing, name)
                    done = read(folder)
        print(f"{name}, {first + len(group)} of {scenes} scenes, {process_time():.0f} s", flush=True)


def _is_done(done: Table, name: str, wanted: Wanted) -> bool:
    scene, seed, attempt = wanted.sample.id, wanted.seed, wanted.attempt
    firsts = [done.get((one, scene, seed, 1)) for one in ("preset", name)]
    is_needless = SETS[name].is_rung and attempt > 1 and all(clip is not None and clip.is_right for clip in firsts)
    return is_needless or (name, scene, seed, attempt) in done


def _make(folder: Path, engine: BatchedImageToVideo, group: Sequence[Wanted], name: str) -> None:
    kind, ends = SETS[name], []

    def after_step(pipeline: Any, step: int, timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
        if kind.has_previews and step + 1 in PREVIEWED:
            ends.append(pipeline.scheduler.model_outputs[-1].half().numpy())  # UniPC keeps the x0 that it expects
        return guided_until(kind.guided_steps)(pipeline, step, timestep, given)

    videos = engine.generate(
        [Image.fromarray(first_frame(scene_of(one.sample.id))) for one in group],
        [one.sample.prompt for one in group],
        [one.noise for one in group],
        steps=STEPS,
        guidance=kind.guidance,
        after_step=after_step,
    )
    rows = [_judged(video, one, name) for video, one in zip(videos, group, strict=True)]
    for index, row in enumerate(rows if ends else []):
        np.save(_ends_file(folder, row), np.stack([end[index] for end in ends]))
    _append(folder / CLIPS, [vars(row) for row in rows])


def _judged(video: Video, wanted: Wanted, name: str) -> Clip:
    scored = judge(video, scene_of(wanted.sample.id))
    edit, rest = _asked(video, wanted.sample)
    facts = (scored.edit_shown, scored.rest_untouched, edit, rest, round(motion(video), 2))
    return Clip(name, wanted.sample.id, wanted.seed, wanted.attempt, *facts)


def _asked(video: Video, sample: Sample) -> tuple[bool, bool]:
    rule = PictureRule(Image.fromarray(first_frame(scene_of(sample.id))), sample.prompt)
    edit, rest = (bool(one.p_yes) for one in rule(video, rule.questions))
    return edit, rest


def _ends_file(folder: Path, clip: Clip) -> Path:
    return folder / ENDS / f"{clip.set}-{clip.scene}-{clip.seed}-{clip.attempt}.npy"


def look(folder: Path) -> None:
    """Decode what was expected after the previewed steps, and ask the loop's judge; resumes."""
    pipeline, by_id = load_pipeline(), {sample.id: sample for sample in omitshapes().samples}
    seen = previews(folder)
    missing = [clip for clip in read(folder).values() if clip.key not in seen and _ends_file(folder, clip).exists()]
    for number, clip in enumerate(missing):
        videos = _decoded(pipeline, np.load(_ends_file(folder, clip)))
        said = {step: _asked(video, by_id[clip.scene]) for step, video in zip(PREVIEWED, videos, strict=True)}
        _append(folder / PREVIEWS, [{"clip": clip.key, "said": said}])
        if number % 100 == 0:
            print(f"{number} of {len(missing)}", flush=True)


@torch.no_grad()
def _decoded(pipeline: Any, ends: np.ndarray) -> Iterator[Video]:
    vae = pipeline.vae
    shape = (1, -1, 1, 1, 1)
    means = torch.tensor(vae.config.latents_mean).view(shape)
    deviations = torch.tensor(vae.config.latents_std).view(shape)
    for end in ends:
        latents = torch.from_numpy(end)[None].to(vae.dtype) * deviations.to(vae.dtype) + means.to(vae.dtype)
        frames = pipeline.video_processor.postprocess_video(vae.decode(latents).sample, output_type="np")[0]
        yield (frames * 255).round().astype(np.uint8)


def read(folder: Path) -> dict[Key, Clip]:
    return {row.key: row for row in (Clip(**values) for values in _rows(folder / CLIPS))}


def previews(folder: Path) -> dict[Key, dict[int, tuple[bool, bool]]]:
    """What the asked judge says of the edit and the rest, by clip and number of steps."""
    rows = _rows(folder / PREVIEWS)
    return {
        (row["clip"][0], row["clip"][1], row["clip"][2], row["clip"][3]): {
            int(step): (edit, rest) for step, (edit, rest) in row["said"].items()
        }
        for row in rows
    }


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _append(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
