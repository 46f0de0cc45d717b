"""Pairs that people compare without knowing which is which, and how their answers are read back.

Pairs are drawn by a digest of the plan: nobody chooses their order or their sides, and nothing has to be kept secret in
a file. On the page a pair is a number with a left and a right clip, and no name of an arm or a job is in its source.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from alignvid.bench.records import VideoRecord
from alignvid.bench.run_folder import RunFolder
from alignvid.bench.runs.variants import BASELINE, STILL
from alignvid.bench.trials.registration import Registration
from alignvid.errors import InputError, UnreadableFile
from alignvid.fields import read
from alignvid.files import read_json, sha256_of_bytes

SCHEMA_VERSION = 1
Side = Literal["left", "right", "same"]


@dataclass(frozen=True)
class Pair:
    """An arm beside the baseline, of one scene and noise."""

    number: str
    """By which the page knows it, such as "007"."""
    arm: str
    scene: str
    seed: int
    arm_is_left: bool
    with_arm: VideoRecord
    baseline: VideoRecord

    @property
    def left(self) -> VideoRecord:
        """What is shown on the left."""
        return self.with_arm if self.arm_is_left else self.baseline

    @property
    def right(self) -> VideoRecord:
        """What is shown on the right."""
        return self.baseline if self.arm_is_left else self.with_arm

    def gain(self, side: Side) -> int:
        """1 where the side is the arm's, -1 where it is the baseline's, 0 for neither."""
        if side == "same":
            return 0
        return 1 if (side == "left") is self.arm_is_left else -1


class AnswerFacts(TypedDict):
    """What a person said of a pair: 1 for the arm, -1 for the baseline, 0 for neither."""

    arm: str
    scene: str
    seed: int
    follows: int
    apart: int


class _Written(TypedDict):
    pair: str
    follows: Side
    apart: Side


class _File(TypedDict):
    schema_version: int
    page: str
    answers: list[_Written]


def draw_pairs(plan: Registration, folder: RunFolder) -> list[Pair]:
    """Every pair of which both clips are there, in the order of the page.

    All planned pairs are drawn, so that a clip that fails moves no other pair to another place or side.
    """
    videos = {(row.sample, row.variant, row.seed): row for row in folder.videos() if folder.is_whole(row)}
    arms = [name for name in plan.arms if name not in (STILL, BASELINE)]
    planned = [(scene["id"], seed, arm) for scene in plan.scenes for seed in plan.seeds for arm in arms]
    rng = random.Random(plan.plan_sha256)
    rng.shuffle(planned)
    sides = [rng.random() < 0.5 for _ in planned]
    pairs = []
    for number, ((scene, seed, arm), is_left) in enumerate(zip(planned, sides, strict=True), start=1):
        with_arm, baseline = videos.get((scene, arm, seed)), videos.get((scene, BASELINE, seed))
        if with_arm is not None and baseline is not None:
            pairs.append(Pair(f"{number:03d}", arm, scene, seed, is_left, with_arm, baseline))
    return pairs


def page_digest(plan: Registration, pairs: Sequence[Pair]) -> str:
    """What a page's answers name it by: another plan, or a clip that was made anew, is another page."""
    shown = [f"{pair.number} {pair.left.sha256} {pair.right.sha256}" for pair in pairs]
    return hashlib.sha256("\n".join([plan.plan_sha256, *shown]).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Rater:
    """One person's answers."""

    file_sha256: str
    answers: tuple[AnswerFacts, ...]


def read_answers(paths: Sequence[Path], plan: Registration, pairs: Sequence[Pair]) -> list[Rater]:
    """What people answered, from the files that the page saved: one of each person.

    Raises: InputError for a file of another page, the same file twice, or one that is no file of answers.
    """
    known, digest = {pair.number: pair for pair in pairs}, page_digest(plan, pairs)
    raters: dict[str, Rater] = {}
    for path in paths:
        rater = _rater(path, known, digest)
        if rater.file_sha256 in raters:
            raise InputError(f"{str(path)!r} holds the same answers as another file; give each person's once.")
        raters[rater.file_sha256] = rater
    return list(raters.values())


def _rater(path: Path, known: dict[str, Pair], digest: str) -> Rater:
    try:
        values: Any = read_json(path)
    except UnreadableFile as error:
        raise InputError(f"The answers {str(error).rstrip('.')}; give a file that the trial's page saved.") from error
    found = read(_File, values, what=repr(str(path)), error=InputError)
    if found["schema_version"] != SCHEMA_VERSION or found["page"] != digest:
        raise InputError(
            f"{str(path)!r} holds answers of another page ({found['page']!r}, and this trial's is {digest!r}); open "
            "this trial's page and answer there."
        )
    answers: dict[str, AnswerFacts] = {}
    for row in found["answers"]:
        if row["pair"] not in known or row["pair"] in answers:
            raise InputError(
                f"{str(path)!r} answers pair {row['pair']!r}, which is not there or answered twice; remove it."
            )
        pair = known[row["pair"]]
        answers[row["pair"]] = AnswerFacts(
            arm=pair.arm,
            scene=pair.scene,
            seed=pair.seed,
            follows=pair.gain(row["follows"]),
            apart=pair.gain(row["apart"]),
        )
    if not answers:
        raise InputError(f"{str(path)!r} holds no answer; compare some pairs on the trial's page first.")
    content = sorted(map(str, answers.values()))
    return Rater(sha256_of_bytes("\n".join(content).encode()), tuple(answers.values()))
