"""A run as one judge saw it: which video belongs to which sample, variant and seed, and what was answered about it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from alignvid.bench.data.samples import Sample
from alignvid.bench.records import AnswerRecord, VideoRecord
from alignvid.bench.run_folder import RunFolder, RunInfo
from alignvid.bench.verdicts import Verdict
from alignvid.errors import InputError


class Cell(NamedTuple):
    """What a run plans one video for."""

    sample: str
    variant: str
    seed: int


class Judging(NamedTuple):
    """Whose answers, to which way of asking, with which settings."""

    judge: str
    protocol: str
    settings: str

    def __str__(self) -> str:
        """The options that choose it."""
        return f"--judge {self.judge} --protocol {self.protocol} --settings {self.settings}"


class Asked(NamedTuple):
    """What a user wants scored; None leaves it open."""

    judge: str | None = None
    """Kind and model, or the kind alone."""
    protocol: str | None = None
    settings: str | None = None
    variants: tuple[str, ...] | None = None
    """The first is what the others are compared with."""


@dataclass(frozen=True)
class LeftOut:
    """Records that were read and not used."""

    stale_answers: int
    """About a video that has been made anew since: its digest is another one."""
    unplanned_answers: int
    """About a job, question or video that the run does not have."""
    unplanned_videos: int
    """Of a sample, variant or seed that is not in the plan."""
    failed_judgings: int = 0
    """Judgings that were not asked for and of which every answer FAILED."""


@dataclass(frozen=True)
class JudgedRun:
    """A run's plan, videos and the answers of one judging."""

    info: RunInfo
    samples: tuple[Sample, ...]
    variants: tuple[str, ...]
    judging: Judging
    videos: Mapping[Cell, VideoRecord]
    """Of the chosen variants; failed jobs too."""
    answers: Mapping[tuple[str, str], AnswerRecord]
    """By job and question."""
    left_out: LeftOut

    @property
    def seeds(self) -> list[int]:
        """As planned."""
        return self.info.seeds


def read_judged_run(folder: RunFolder, asked: Asked) -> JudgedRun:
    """Read a run and choose one judging.

    Raises: InputError if there is no run, no answer, more than one judging to choose from, or no such variant.
    """
    info, samples = folder.info(), tuple(folder.samples())
    variants = _variants(info, asked.variants)
    videos, unplanned_videos = _planned(folder.videos(), info, samples)
    answers = folder.answers()
    judging = _judging(answers, asked, folder)
    chosen = [row for row in answers if _judging_of(row) == judging]
    questions = {(sample.id, question.id) for sample in samples for question in sample.questions}
    digests = {video.job: video.sha256 for video in videos.values()}
    known = [row for row in chosen if row.job in digests and (row.sample, row.question) in questions]
    fresh = {(row.job, row.question): row for row in known if row.video_sha256 == digests[row.job]}
    return JudgedRun(
        info=info,
        samples=samples,
        variants=variants,
        judging=judging,
        videos={cell: video for cell, video in videos.items() if cell.variant in variants},
        answers=fresh,
        left_out=LeftOut(
            len(known) - len(fresh), len(chosen) - len(known), unplanned_videos, _failed_judgings(answers, judging)
        ),
    )


def _planned(
    videos: Iterable[VideoRecord], info: RunInfo, samples: Iterable[Sample]
) -> tuple[dict[Cell, VideoRecord], int]:
    ids, names, seeds = {sample.id for sample in samples}, set(info.variant_names), set(info.seeds)
    planned: dict[Cell, VideoRecord] = {}
    unplanned = 0
    for video in videos:
        cell = Cell(video.sample, video.variant, video.seed)
        if video.sample not in ids or video.variant not in names or video.seed not in seeds:
            unplanned += 1
        elif cell in planned:
            raise InputError(
                f"Jobs {planned[cell].job!r} and {video.job!r} are both of sample {video.sample!r}, variant "
                f"{video.variant!r}, seed {video.seed}; remove the files of one of them."
            )
        else:
            planned[cell] = video
    return planned, unplanned


def _variants(info: RunInfo, asked: Sequence[str] | None) -> tuple[str, ...]:
    names = asked or info.variant_names
    if unknown := [name for name in names if name not in info.variant_names]:
        raise InputError(f"The run has no variant {unknown[0]!r}; choose from {', '.join(info.variant_names)}.")
    if len(set(names)) < len(names):
        raise InputError(f"A variant is named twice in {', '.join(names)}; name each once.")
    return tuple(names)


def _judging(answers: Sequence[AnswerRecord], asked: Asked, folder: RunFolder) -> Judging:
    """The one judging that is meant; one of which every answer FAILED does not stand in the way of another."""
    found = sorted({_judging_of(row) for row in answers})
    if not found:
        line = shlex.join(["alignvid", "bench", "judge", str(folder.path), "--judge", "rule"])
        raise InputError(f"{str(folder.path)!r} has no answers yet; type: {line}")
    fitting = [judging for judging in found if _fits(judging, asked)]
    answered = {_judging_of(row) for row in answers if row.verdict is not Verdict.FAILED}
    fitting = [judging for judging in fitting if judging in answered] or fitting
    if len(fitting) == 1:
        return fitting[0]
    choices = "; ".join(map(str, fitting or found))
    if fitting:
        raise InputError(f"There are answers of {len(fitting)} judgings, which are never mixed; choose one: {choices}.")
    given = " ".join(f"--{name} {value}" for name, value in asked._asdict().items() if value and name != "variants")
    raise InputError(f"There are no answers of {given}; choose from: {choices}.")


def _judging_of(row: AnswerRecord) -> Judging:
    return Judging(row.judge, row.protocol, row.settings)


def _failed_judgings(answers: Sequence[AnswerRecord], chosen: Judging) -> int:
    answered = {_judging_of(row) for row in answers if row.verdict is not Verdict.FAILED}
    return len({_judging_of(row) for row in answers} - answered - {chosen})


def _fits(judging: Judging, asked: Asked) -> bool:
    return (
        asked.judge in (None, judging.judge, judging.judge.partition(":")[0])
        and asked.protocol in (None, judging.protocol)
        and judging.settings.startswith(asked.settings or "")
    )
