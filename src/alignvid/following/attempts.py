"""Attempts, and which of them is best: never by one mixed score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from alignvid.fields import Count, Duration
from alignvid.following.floors import Reached
from alignvid.following.motion import STILL_BELOW
from alignvid.following.questions import Answered
from alignvid.media.videos import Frames

Ended = Literal["followed", "limit", "stopped"]
"""Why a loop ended: an attempt was right in everything, the limit was reached, or the caller stopped it."""


@dataclass(frozen=True, kw_only=True)
class MadeFacts:
    """What one run of the pipeline was, as records keep it."""

    rung: str
    """Name of what was attached."""
    recipe: dict[str, Any]
    forwards: Count
    """Of the transformers, for the video alone."""
    active_forwards: Count
    """Those in which the gain was on."""
    acted: Count
    """Times that the keys of an attention were multiplied."""
    proof: dict[str, Any] | None
    """What the gain changed, attention by attention (`Attachment.proof`); taken in the first attempt."""
    seconds: Duration

    def facts(self) -> dict[str, Any]:
        """These fields alone, by name."""
        return {field.name: getattr(self, field.name) for field in fields(MadeFacts)}


@dataclass(frozen=True, kw_only=True)
class Made(MadeFacts):
    """What one run of the pipeline gave."""

    frames: Frames | None
    """As the judge sees them: as the file has them, where one was written. In the end only the best has them still."""
    file: Path | None


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One video and what the judge says of it."""

    number: int
    """From 1."""
    seed: int
    """Of its noise."""
    made: Made
    answers: tuple[Answered, ...]
    motion: float
    """Largest change of a place, in colour levels; see `alignvid.following.motion`."""
    must_move: bool
    """Whether standing still fails."""
    seconds: float
    """Making and judging it."""
    floors: tuple[Reached, ...] = ()
    was_there: bool = False
    """Whether it was made in an earlier run of the same folder."""

    @property
    def is_still(self) -> bool:
        """Whether it fails the motion check."""
        return self.must_move and self.motion < STILL_BELOW

    @property
    def is_followed(self) -> bool:
        """Whether everything asked was answered rightly, it moves where it must, and it reaches every floor."""
        return not self.wrong and not self.is_still and all(floor.is_met for floor in self.floors)

    @property
    def right(self) -> tuple[Answered, ...]:
        """Questions answered as for a video that follows the prompt."""
        return tuple(one for one in self.answers if one.is_right)

    @property
    def wrong(self) -> tuple[Answered, ...]:
        """The others, those among them that the judge did not answer."""
        return tuple(one for one in self.answers if not one.is_right)

    @property
    def rank(self) -> tuple[int, int]:
        """What is compared to find the best, as `rank_of` says; floors that are reached count with the rest."""
        edit, rest = rank_of(self.answers, self.is_still)
        return edit, rest + sum(floor.is_met for floor in self.floors)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "number": self.number,
            "seed": self.seed,
            "file": None if self.made.file is None else str(self.made.file),
            "answers": [one.to_dict() for one in self.answers],
            "motion": round(self.motion, 2),
            "is_still": self.is_still,
            "floors": [floor.to_dict() for floor in self.floors],
            "is_followed": self.is_followed,
            **self.made.facts(),
            "seconds": round(self.seconds, 3),
        }

    def __str__(self) -> str:
        state = "followed" if self.is_followed else f"{len(self.right)} of {len(self.answers)} answers are right"
        still = ", but it stands still" if self.is_still else ""
        return f"attempt {self.number}, seed {self.seed}, {self.made.rung}: {state}{still}"


@dataclass(frozen=True)
class Followed:
    """All attempts of a loop, and how it ended."""

    attempts: tuple[Attempt, ...]
    ended: Ended
    limit: str
    """In words, such as "6 attempts"."""
    judge: str
    """What the judge calls itself."""

    @property
    def best(self) -> Attempt | None:
        """The attempt of the highest rank, the earliest of equal ones; None only where it was stopped before any."""
        return best_of(self.attempts) if self.attempts else None

    @property
    def is_followed(self) -> bool:
        """Whether an attempt was right in everything."""
        return any(attempt.is_followed for attempt in self.attempts)

    @property
    def forwards(self) -> int:
        """Of the transformers, for all videos together."""
        return sum(attempt.made.forwards for attempt in self.attempts)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "is_followed": self.is_followed,
            "ended": self.ended,
            "limit": self.limit,
            "judge": self.judge,
            "best": None if self.best is None else self.best.number,
            "forwards": self.forwards,
            "attempts": [attempt.to_dict() for attempt in self.attempts],
        }

    def __str__(self) -> str:
        count = f"{len(self.attempts)} attempt{'' if len(self.attempts) == 1 else 's'}"
        if self.is_followed:
            return f"followed in attempt {self.best.number}" if self.best else ""
        best = "" if self.best is None else f", the best is attempt {self.best.number}"
        stopped = " before it was stopped" if self.ended == "stopped" else ""
        return f"not followed in {count}{stopped}{best}"


def rank_of(answers: Sequence[Answered], is_still: bool) -> tuple[int, int]:
    """What is compared, in this order: questions about the edit that are right, that it moves among them; those about
    the rest.
    """
    right = [one.question.about for one in answers if one.is_right]
    return right.count("edit") + (not is_still), right.count("rest")


def best_of(attempts: Sequence[Attempt]) -> Attempt:
    """The attempt of the highest rank, the earliest of equal ones."""
    return max(attempts, key=lambda attempt: attempt.rank)
