"""Variants that make several attempts: a loop until the prompt is followed, and the best of n. The miniature only.

The judge that is asked reads the reference picture and the prompt (alignvid.following.PictureRule); it is never the one
that scores, which knows the scene. It can be made wrong on purpose, to see what a loop makes of a judge's errors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from PIL import Image

from alignvid.bench.runs.jobs import Job
from alignvid.following.attempts import rank_of
from alignvid.following.motion import STILL_BELOW, motion
from alignvid.following.picture_rule import PictureRule
from alignvid.following.questions import Answer, Answered, asked
from alignvid.media.videos import Frames

Make = Callable[[Sequence[Job], Sequence[Image.Image | None]], list[Frames]]
"""The clips of jobs with these reference pictures, or none."""


class Chosen(NamedTuple):
    """A job's clip."""

    clip: Frames
    noise_seed: int
    """Of the attempt that it is."""
    attempts: int | None = None
    """Made in all; None without a loop."""


class _Tried(NamedTuple):
    clip: Frames
    noise_seed: int
    rank: tuple[int, int]
    is_followed: bool


def chosen_clips(jobs: Sequence[Job], pictures: Sequence[Image.Image | None], make: Make) -> list[Chosen]:
    """The clip of each job: the only one, or what its variant's loop chooses. All jobs have one variant."""
    variant = jobs[0].variant
    most = variant.budget or variant.n
    if most is None:
        return [Chosen(clip, job.noise_seed) for job, clip in zip(jobs, make(jobs, pictures), strict=True)]
    pairs = [(job, picture) for job, picture in zip(jobs, pictures, strict=True) if picture is not None]
    rules = [PictureRule(picture, job.sample.prompt) for job, picture in pairs]  # the miniature always has one
    tried: list[list[_Tried]] = [[] for _ in jobs]
    for attempt in range(1, most + 1):
        waiting = [index for index, own in enumerate(tried) if not (variant.budget and own and own[-1].is_followed)]
        if not waiting:
            break
        again = [replace(jobs[index], noise_seed=attempt_noise(jobs[index].noise_seed, attempt)) for index in waiting]
        for index, job, clip in zip(waiting, again, make(again, [pictures[index] for index in waiting]), strict=True):
            tried[index].append(_tried(job, clip, rules[index], attempt))
    return [_best(own) for own in tried]


def attempt_noise(noise_seed: int, attempt: int) -> int:
    """The seed of an attempt's noise: the first has the job's own, so that it is the clip of a single run."""
    if attempt == 1:
        return noise_seed
    return int.from_bytes(hashlib.sha256(f"{noise_seed}\0{attempt}".encode()).digest()[:6], "big")


def made_wrong(answers: Sequence[Answered], *, false_yes: float, false_no: float, key: str) -> tuple[Answered, ...]:
    """Answers of which some say the opposite; the key decides which, so that the same loop makes the same errors."""
    found = []
    for number, one in enumerate(answers):
        digest = hashlib.sha256(f"{key}\0{number}".encode()).digest()
        share = false_no if one.says == "yes" else false_yes
        is_wrong = int.from_bytes(digest[:6], "big") < share * 2**48
        found.append(replace(one, answer=Answer(1.0 - (one.answer.p_yes or 0.0))) if is_wrong else one)
    return tuple(found)


def _tried(job: Job, clip: Frames, rule: PictureRule, attempt: int) -> _Tried:
    variant = job.variant
    answers = made_wrong(
        asked(rule, clip, rule.questions),
        false_yes=variant.false_yes or 0.0,
        false_no=variant.false_no or 0.0,
        key=f"{job.sample.id}\0{job.seed}\0{attempt}",
    )
    is_still = motion(clip) < STILL_BELOW
    is_followed = all(one.is_right for one in answers) and not is_still
    return _Tried(clip, job.noise_seed, rank_of(answers, is_still), is_followed)


def _best(tried: Sequence[_Tried]) -> Chosen:
    best = max(tried, key=lambda one: one.rank)  # the first of equal ones
    return Chosen(best.clip, best.noise_seed, len(tried))
