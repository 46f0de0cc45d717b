"""What became of every question of a run, as one array: variants × samples × seeds × questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Bool, Float, UInt8

from alignvid.bench.data.samples import Question
from alignvid.bench.records import AnswerRecord
from alignvid.bench.scoring.judged_run import Cell, JudgedRun
from alignvid.bench.verdicts import Verdict


class Outcome(IntEnum):
    """What became of one question about one planned video."""

    NO_QUESTION = 0
    """The sample has fewer questions than the array has places."""
    RIGHT = 1
    WRONG = 2
    UNPARSED = 3
    """The reply says neither yes nor no."""
    FAILED = 4
    """There is no reply, for reasons outside the video."""
    UNASKED = 5
    """There is a video and no answer about it, or only one about an older video."""
    MISSING = 6
    """There is no video."""


PRESENT = (Outcome.RIGHT, Outcome.WRONG, Outcome.UNPARSED)
"""Of these there is a video and a reply."""
COUNTED = (*PRESENT, Outcome.MISSING)
"""The denominator of an accuracy: what a variant answers for."""
OPEN = (Outcome.FAILED, Outcome.UNASKED)
"""Left out of an accuracy; its bounds take them as wrong, and as right."""
PLANNED = (*COUNTED, *OPEN)

Table = UInt8[np.ndarray, "sample seed question"]


@dataclass(frozen=True)
class Outcomes:
    """The outcomes, and which replies were a yes."""

    table: UInt8[np.ndarray, "variant sample seed question"]
    said_yes: Bool[np.ndarray, "variant sample seed question"]
    expects_yes: Bool[np.ndarray, "sample question"]


def outcomes(run: JudgedRun) -> Outcomes:
    """Look up the outcome of each question about each planned video."""
    places = max((len(sample.questions) for sample in run.samples), default=0)
    shape = len(run.variants), len(run.samples), len(run.seeds), places
    table, said_yes = np.zeros(shape, np.uint8), np.zeros(shape, bool)
    for v, variant in enumerate(run.variants):
        for s, sample in enumerate(run.samples):
            for e, seed in enumerate(run.seeds):
                video = run.videos.get(Cell(sample.id, variant, seed))
                for q, question in enumerate(sample.questions):
                    answer = run.answers.get((video.job, question.id)) if video else None
                    has_video = video is not None and video.status == "done"
                    table[v, s, e, q] = outcome(question, answer, has_video)
                    said_yes[v, s, e, q] = answer is not None and answer.verdict is Verdict.YES
    expects_yes = np.zeros((shape[1], places), bool)
    for s, sample in enumerate(run.samples):
        for q, question in enumerate(sample.questions):
            expects_yes[s, q] = question.expected_answer == "yes"
    return Outcomes(table, said_yes, expects_yes)


def outcome(question: Question, answer: AnswerRecord | None, has_video: bool) -> Outcome:
    """What an answer to a question means; without a video it is missing, whatever was answered."""
    if not has_video or (answer is not None and answer.verdict is Verdict.MISSING):
        return Outcome.MISSING
    if answer is None:
        return Outcome.UNASKED
    if answer.verdict is Verdict.UNPARSED:
        return Outcome.UNPARSED
    if answer.verdict is Verdict.FAILED:
        return Outcome.FAILED
    return Outcome.RIGHT if answer.verdict.value == question.expected_answer else Outcome.WRONG


def are(table: Table, kinds: Sequence[Outcome]) -> Bool[np.ndarray, "sample seed question"]:
    """Which outcomes are of these kinds."""
    return np.isin(table, kinds)


def sample_shares(
    right: Bool[np.ndarray, "sample seed question"], counted: Bool[np.ndarray, "sample seed question"]
) -> Float[np.ndarray, " sample"]:
    """By sample: the share of its questions that is right, averaged over the seeds; NaN where none counts.

    A seed whose questions do not count is left out of its sample's average.
    """
    return mean_over_seeds((right & counted).sum(axis=2), counted.sum(axis=2))


def sample_all_right(table: Table) -> Float[np.ndarray, " sample"]:
    """By sample: the share of seeds at which every question is right; NaN where none is known.

    A video with a question that failed or was not asked is left out, as that is not known; a missing one is not right.
    """
    asked = are(table, PLANNED)
    is_known = np.asarray(asked.any(axis=2) & ~are(table, OPEN).any(axis=2))
    return mean_over_seeds((~asked | (table == Outcome.RIGHT)).all(axis=2) & is_known, is_known)


def mean_over_seeds(sums: np.ndarray, weights: np.ndarray) -> Float[np.ndarray, " sample"]:
    """Divide (sample, seed) by (sample, seed), then average over the seeds that have a weight; NaN where none has."""
    shares = np.divide(sums, weights, out=np.zeros(sums.shape), where=weights > 0)
    seeds = (weights > 0).sum(axis=1)
    return np.divide(shares.sum(axis=1), seeds, out=np.full(len(sums), np.nan), where=seeds > 0)
