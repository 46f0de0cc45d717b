"""The loop on the miniature: make the clips that policies draw on, replay policies, write docs/following.md's tables.

    python docs/following.py run FOLDER [--half claim] [--scenes 96] [--sets plain,preset,guided]    clips; resumes
    python docs/following.py page FOLDER                                      tables from the records
    python docs/following.py ladders FOLDER                                   rungs, replayed

An attempt's clip depends on scene, noise and recipe alone, so a policy is replayed from records: what it would have
made next is there. Every clip is judged twice: by the rule that the loop asks (it reads the picture and the prompt),
and by the one that scores (it knows the scene).
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from alignvid import Recipe, attach
from alignvid.bench.data.halves import Half, half_of
from alignvid.bench.data.omitshapes import omitshapes, scene_of
from alignvid.bench.data.samples import Sample
from alignvid.bench.runs.jobs import noise_seed
from alignvid.bench.runs.loops import attempt_noise, made_wrong
from alignvid.bench.scoring.statistics import Estimate, mean, paired
from alignvid.following import PictureRule
from alignvid.following.attempts import rank_of
from alignvid.following.motion import STILL_BELOW, motion
from alignvid.following.questions import Answer, Answered
from alignvid.miniature import load_pipeline
from alignvid.miniature.batches import batched
from alignvid.miniature.drawing import first_frame
from alignvid.miniature.judge import judge

PAGE = Path(__file__).parent / "following.md"
MARK = "<!-- written by docs/following.py from here on -->"
BATCH, STEPS = 12, 10
CLIPS = "clips.jsonl"
ALL_NEED = 3
"""Attempts of the preset that are made of every scene; further ones only where the loop is not at its end."""


class Set(NamedTuple):
    """Clips made in one way: so many attempts for each scene."""

    recipe: Callable[[object], Recipe | None]
    attempts: int
    guidance: float = 1.0

    @property
    def forwards(self) -> int:
        return STEPS * (2 if self.guidance > 1 else 1)


def _own(gamma: float | None = None) -> Callable[[object], Recipe]:
    def recipe(pipeline: object) -> Recipe:
        with attach(pipeline, gamma=gamma) as attachment:
            return attachment.recipe

    return recipe


SETS = {
    "plain": Set(lambda pipeline: None, 3),
    "preset": Set(_own(), 6),
    "guided": Set(lambda pipeline: None, 1, guidance=4.0),
    "stronger": Set(_own(2.0), 3),
    "weaker": Set(_own(1.25), 3),
}


@dataclass(frozen=True)
class Clip:
    """What the two judges say of one clip."""

    set: str
    scene: str
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


Table = Mapping[tuple[str, str, int], Clip]


def samples(half: Half, count: int) -> list[Sample]:
    return [sample for sample in omitshapes().samples if half_of(sample.id) == half][:count]


def run(folder: Path, half: Half, scenes: int, sets: Sequence[str], attempts: int | None) -> None:
    """Make and judge what the records lack: batches of scenes, attempt by attempt."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = samples(half, scenes)
    (folder / "plan.json").write_text(json.dumps({"half": half, "scenes": scenes}))
    pipeline, done = load_pipeline(), read(folder)
    for name in sets:
        kind = SETS[name]
        recipe = kind.recipe(pipeline)
        for attempt in range(1, min(kind.attempts, attempts or kind.attempts) + 1):
            missing = [
                sample
                for sample in chosen
                if (name, sample.id, attempt) not in done and not _is_settled(done, name, sample.id, attempt)
            ]
            for first in range(0, len(missing), BATCH):
                with nullcontext() if recipe is None else attach(pipeline, recipe):
                    _make(folder, batched(pipeline), missing[first : first + BATCH], name, attempt)
                print(f"{name}, attempt {attempt}: {first + BATCH} of {len(missing)}", flush=True)
            done = read(folder)


def _is_settled(done: Table, name: str, scene: str, attempt: int) -> bool:
    """Whether an attempt beyond those that every policy may need is beyond a loop's end."""
    before = [done.get((name, scene, number)) for number in range(1, attempt)]
    return attempt > ALL_NEED and any(clip is not None and clip.is_right for clip in before)


def _make(folder: Path, engine: object, group: Sequence[Sample], name: str, attempt: int) -> None:
    scenes = [scene_of(sample.id) for sample in group]
    videos = engine.generate(  # type: ignore[attr-defined]  # a BatchedImageToVideo
        [Image.fromarray(first_frame(scene)) for scene in scenes],
        [sample.prompt for sample in group],
        [attempt_noise(noise_seed(sample.id, 0), attempt) for sample in group],
        steps=STEPS,
        guidance=SETS[name].guidance,
    )
    with (folder / CLIPS).open("a") as file:
        for sample, scene, video in zip(group, scenes, videos, strict=True):
            scored = judge(video, scene)
            rule = PictureRule(Image.fromarray(first_frame(scene)), sample.prompt)
            edit, rest = (bool(one.p_yes) for one in rule(video, rule.questions))
            row = Clip(
                name, sample.id, attempt, scored.edit_shown, scored.rest_untouched, edit, rest, round(motion(video), 2)
            )
            file.write(json.dumps(vars(row)) + "\n")


def read(folder: Path) -> dict[tuple[str, str, int], Clip]:
    path = folder / CLIPS
    rows = [Clip(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
    return {(row.set, row.scene, row.attempt): row for row in rows}


class Ending(NamedTuple):
    """What a policy came to with one scene."""

    clip: Clip
    attempts: int
    forwards: int
    says_followed: bool


Ladder = Callable[[int, "Clip | None"], str]
"""The set of the next attempt, from its number and the clip before."""


@dataclass(frozen=True)
class Policy:
    """Attempts until the asked judge is content, or all of them; with how wrong a judge."""

    ladder: Ladder
    most: int
    stops: bool = True
    false_yes: float = 0.0
    false_no: float = 0.0

    def replay(self, table: Table, scene: str, draw: int = 0) -> Ending:
        """`draw`: which of the random errors of a judge that is made wrong."""
        tried: list[tuple[Clip, tuple[int, int], bool]] = []
        forwards = 0
        for attempt in range(1, self.most + 1):
            name = self.ladder(attempt, tried[-1][0] if tried else None)
            clip = table[name, scene, attempt]
            forwards += SETS[name].forwards
            answers, is_still = self._answers(clip, f"{scene}\0{draw}\0{attempt}"), clip.motion < STILL_BELOW
            is_right = all(one.is_right for one in answers) and not is_still
            tried.append((clip, rank_of(answers, is_still), is_right))
            if is_right and self.stops:
                break
        best = max(tried, key=lambda one: one[1])
        return Ending(best[0], len(tried), forwards, best[2])

    def _answers(self, clip: Clip, key: str) -> tuple[Answered, ...]:
        said = zip(QUESTIONS, (clip.asked_edit, clip.asked_rest), strict=True)
        answers = [Answered(question, Answer(float(value))) for question, value in said]
        return made_wrong(answers, false_yes=self.false_yes, false_no=self.false_no, key=key)


def _questions() -> tuple:
    sample = omitshapes().samples[0]
    return PictureRule(Image.fromarray(first_frame(scene_of(sample.id))), sample.prompt).questions


QUESTIONS = _questions()


def always(name: str) -> Ladder:
    return lambda attempt, last: name


def after(count: int, name: str) -> Ladder:
    """The preset so many times, then another set."""
    return lambda attempt, last: "preset" if attempt <= count else name


def by_fault(attempt: int, last: Clip | None) -> str:
    """Stronger where the edit was missing, weaker where the rest was touched."""
    if last is None:
        return "preset"
    return "stronger" if not last.asked_edit else "weaker"


def stronger_if_missing(attempt: int, last: Clip | None) -> str:
    return "preset" if last is None or last.asked_edit else "stronger"


ARMS = {
    "γ 1 once": Policy(always("plain"), 1),
    "guidance 4 once, γ 1": Policy(always("guided"), 1),
    "preset once": Policy(always("preset"), 1),
    "best of 3 at γ 1": Policy(always("plain"), 3, stops=False),
    "best of 3 at the preset": Policy(always("preset"), 3, stops=False),
    "loop at γ 1, budget 3": Policy(always("plain"), 3),
    "**loop at the preset, budget 3**": Policy(always("preset"), 3),
    "**loop at the preset, budget 6**": Policy(always("preset"), 6),
}
WRONG = {
    f"{100 * rate:g} % false {what}": replace(Policy(always("preset"), ALL_NEED), **{f"false_{what}": rate})
    for rate in (0.03, 0.1)
    for what in ("yes", "no")
} | {
    f"{100 * rate:g} % false yes and no": Policy(always("preset"), ALL_NEED, false_yes=rate, false_no=rate)
    for rate in (0.03, 0.1)
}
LADDERS = {
    "preset ×3": Policy(always("preset"), 3),
    "preset, then stronger ×2": Policy(after(1, "stronger"), 3),
    "preset ×2, then stronger": Policy(after(2, "stronger"), 3),
    "preset, then weaker ×2": Policy(after(1, "weaker"), 3),
    "preset ×2, then weaker": Policy(after(2, "weaker"), 3),
    "stronger if the edit is missing, else weaker": Policy(by_fault, 3),
    "stronger if the edit is missing": Policy(stronger_if_missing, 3),
    "stronger ×3": Policy(always("stronger"), 3),
    "weaker ×3": Policy(always("weaker"), 3),
}
DRAWS = 20
"""Times that a judge's random errors are drawn anew; scenes, clips and noise stay."""


def endings(policy: Policy, table: Table, scenes: Sequence[str]) -> list[list[Ending]]:
    """By scene, one or, where the judge is made wrong, several draws of its errors."""
    draws = DRAWS if policy.false_yes or policy.false_no else 1
    return [[policy.replay(table, scene, draw) for draw in range(draws)] for scene in scenes]


def rate(found: Sequence[Sequence[Ending]], what: Callable[[Ending], float]) -> np.ndarray:
    return np.array([np.mean([what(one) for one in own]) for own in found])


def row(name: str, found: Sequence[Sequence[Ending]], against: Sequence[Sequence[Ending]] | None) -> str:
    both = rate(found, lambda one: one.clip.both)
    forwards = rate(found, lambda one: one.forwards)
    ends = rate(found, lambda one: one.says_followed)
    false_ends = rate(found, lambda one: one.says_followed and not one.clip.both)
    cells = [
        percent(mean(rate(found, lambda one: one.clip.shown), (0.0, 1.0))),
        percent(mean(rate(found, lambda one: one.clip.untouched), (0.0, 1.0))),
        percent(mean(both, (0.0, 1.0))),
        plain(mean(forwards, (0.0, np.inf))),
        plain(ratio(forwards, both)),
        percent(ratio(false_ends, ends)),
        percent(mean(rate(found, lambda one: one.clip.is_right), (0.0, 1.0))),
    ]
    if against is not None:
        compared = paired(rate(against, lambda one: one.clip.both), both, np.ones(len(both)))
        cells.append(
            f"{compared.wins} / {compared.losses}, p {compared.p:.2g}" if compared.wins + compared.losses else "="
        )
    return f"| {name} | {' | '.join(cells)} |"


HEADS = (
    "| | shown, % | untouched, % | both, % | forwards a scene | forwards a clip right in both | false ends, % | "
    "by the asked judge, % |",
    "|---|---|---|---|---|---|---|---|",
)


def tables(policies: Mapping[str, Policy], table: Table, scenes: Sequence[str], base: str) -> Iterable[str]:
    yield HEADS[0] + f" both, scenes more / fewer than {base.strip('*')} |"
    yield HEADS[1] + "---|"
    against = endings(policies[base], table, scenes)
    for name, policy in policies.items():
        yield row(name, endings(policy, table, scenes), None if name == base else against).replace("|", "|", 1) + (
            " |" if name == base else ""
        )


def ratio(sums: np.ndarray, weights: np.ndarray) -> Estimate:
    """The ratio of two sums over scenes, some of whose weights are 0, with its percentile bootstrap interval."""
    if weights.sum() == 0:
        return Estimate(None, None, None, len(sums))
    drawn = np.random.default_rng(0).integers(0, len(sums), (10_000, len(sums)))
    with np.errstate(divide="ignore"):
        found = sums[drawn].sum(axis=1) / weights[drawn].sum(axis=1)
    low, high = np.percentile(found, [2.5, 97.5])
    return Estimate(float(sums.sum() / weights.sum()), float(low), float(high), len(sums))


def percent(found: Estimate) -> str:
    value, low, high = (np.nan if one is None else 100 * one for one in (found.value, found.low, found.high))
    return f"{value:.1f} ({low:.0f} to {high:.0f})"


def plain(found: Estimate) -> str:
    value, low, high = (np.nan if one is None else one for one in (found.value, found.low, found.high))
    return f"{value:.1f}" if low == high else f"{value:.1f} ({low:.1f} to {high:.1f})"


def known(table: Table, policies: Iterable[Policy]) -> list[str]:
    """Scenes of which every policy can be replayed."""
    found = []
    for scene in dict.fromkeys(scene for _, scene, _ in table):
        try:
            for policy in policies:
                policy.replay(table, scene)
        except KeyError:
            continue
        found.append(scene)
    return found


def judged_twice(table: Table) -> str:
    """The asked judge against the one that scores, clip by clip."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for clip in table.values():
        for what, said, truth in (("edit", clip.asked_edit, clip.shown), ("rest", clip.asked_rest, clip.untouched)):
            counts[what][2 * truth + said] += 1
    lines = ["| question | clips | yes where the scoring judge says no | no where it says yes |", "|---|---|---|---|"]
    for what, (no_no, no_yes, yes_no, yes_yes) in counts.items():
        no, yes = no_no + no_yes, yes_no + yes_yes
        lines.append(f"| {what} | {no + yes} | {no_yes} of {no} | {yes_no} of {yes} |")
    return "\n".join(lines)


def page(folder: Path) -> None:
    """Write the tables behind the mark."""
    plan, table = json.loads((folder / "plan.json").read_text()), read(folder)
    arms = {name: policy for name, policy in ARMS.items() if policy.most <= ALL_NEED}
    scenes = known(table, arms.values())
    arms |= {name: policy for name, policy in ARMS.items() if set(scenes) <= set(known(table, [policy]))}
    parts = [
        f"### Policies\n\n{len(scenes)} scenes of the {plan['half']} half, one noise seed for each attempt; 95 % "
        "interval over scenes.\n\n" + "\n".join(tables(arms, table, scenes, "preset once")),
        f"### Judges made wrong on purpose\n\nThe loop at the preset, budget 3, on the same clips; errors drawn "
        f"{DRAWS} times. Each answer, about the edit and about the rest, is turned with this probability.\n\n"
        + "\n".join(tables({"as it is": Policy(always("preset"), ALL_NEED), **WRONG}, table, scenes, "as it is")),
        f"### The judge that is asked\n\nAll clips above.\n\n{judged_twice(table)}",
    ]
    before = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(f"{before}{MARK}\n\n" + "\n\n".join(parts) + "\n", encoding="utf-8")


def ladders(folder: Path) -> None:
    table = read(folder)
    scenes = known(table, LADDERS.values())
    print(f"{len(scenes)} scenes")
    print("\n".join(tables(LADDERS, table, scenes, "preset ×3")))
    moving = sorted(clip.motion for clip in table.values() if clip.shown)
    still = sorted(clip.motion for clip in table.values() if not clip.shown)
    print(
        "motion, shown:", np.percentile(moving, [0, 1, 5, 50]), "not shown:", np.percentile(still, [0, 5, 25, 50, 75])
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "page", "ladders"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--half", choices=("development", "claim"), default="claim")
    parser.add_argument("--scenes", type=int, default=96)
    parser.add_argument("--sets", default="preset,plain,guided")
    parser.add_argument("--attempts", type=int, help="at most so many of each set")
    given = parser.parse_args()
    if given.command == "run":
        run(given.folder, given.half, given.scenes, given.sets.split(","), given.attempts)
    elif given.command == "page":
        page(given.folder)
    else:
        ladders(given.folder)


if __name__ == "__main__":
    main()
