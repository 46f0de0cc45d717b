"""The loop itself: an attempt, its answers, and again with new noise, until one is right or a limit is reached.

What makes a video and what judges it are given; nothing here knows a pipeline.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from alignvid.errors import JudgeError
from alignvid.following.attempts import Attempt, Ended, Followed, Made, best_of
from alignvid.following.floors import Floor
from alignvid.following.folder import LoopFolder
from alignvid.following.limits import Limits
from alignvid.following.motion import motion
from alignvid.following.questions import Answered, Judge, Question, asked, identity_of
from alignvid.media.videos import Frames

Make = Callable[[int, int], Made]
"""Makes the video of an attempt from its number and its seed."""
OnAttempt = Callable[[Attempt], None]
ShouldStop = Callable[[], bool]


def unwatched(attempt: Attempt) -> None:
    """Nobody watches."""


def never() -> bool:
    """Nobody stops it."""
    return False


@dataclass(frozen=True, kw_only=True)
class Judging:
    """How attempts are judged."""

    judge: Judge
    questions: tuple[Question, ...]
    must_move: bool
    """Whether a video that stands still fails."""
    floors: tuple[Floor, ...] = ()


def run_loop(
    make: Make,
    judging: Judging,
    limits: Limits,
    *,
    seed: int,
    folder: LoopFolder | None,
    on_attempt: OnAttempt,
    should_stop: ShouldStop,
) -> Followed:
    """Attempts with the seeds `seed`, `seed` + 1, …; those that the folder holds are not made, nor judged, again.

    Raises: JudgeError with the attempts so far.
    """
    attempts: list[Attempt] = []
    ended: Ended = "followed"
    while not (attempts and attempts[-1].is_followed):
        if limits.are_reached(len(attempts), sum(attempt.seconds for attempt in attempts)):
            ended = "limit"
            break
        if should_stop():
            ended = "stopped"
            break
        number = len(attempts) + 1
        try:
            attempt = _attempt(make, judging, number, seed + number - 1, folder)
        except JudgeError as error:
            kept = f"; its video is kept in {str(folder.path)!r}, and the same again resumes there" if folder else ""
            message = f"Attempt {number} was not judged: {str(error).rstrip('.')}{kept}."
            raise JudgeError(message, attempts=attempts) from error
        attempts = _with(attempts, attempt)
        on_attempt(attempt)
    return Followed(tuple(attempts), ended, str(limits), identity_of(judging.judge))


def _attempt(make: Make, judging: Judging, number: int, seed: int, folder: LoopFolder | None) -> Attempt:
    made, was_there = (folder.made(number) if folder else None), True
    if made is None:
        made, was_there = make(number, seed), False
        if folder:
            folder.keep(number, seed, made)
    frames = made.frames
    assert frames is not None, "what was just made or read has its frames"
    answers, judging_s = _answers(judging, number, made, frames, folder)
    return Attempt(
        number=number,
        seed=seed,
        made=made,
        answers=answers,
        motion=motion(frames),
        must_move=judging.must_move and len(frames) > 1,
        floors=tuple(floor.of(frames) for floor in judging.floors),
        seconds=made.seconds + judging_s,
        was_there=was_there,
    )


def _answers(
    judging: Judging, number: int, made: Made, frames: Frames, folder: LoopFolder | None
) -> tuple[tuple[Answered, ...], float]:
    name = identity_of(judging.judge)
    if folder and (found := folder.answers(made, name, judging.questions)):
        return found
    begin = time.perf_counter()
    answers = asked(judging.judge, frames, judging.questions)
    seconds = round(time.perf_counter() - begin, 3)
    if folder:
        folder.keep_answers(number, made, name, answers, seconds)
    return answers, seconds


def _with(attempts: list[Attempt], new: Attempt) -> list[Attempt]:
    """All of them, of which only the best and the newest keep their frames: a video may be 100 MB."""
    best = best_of([*attempts, new])
    return [one if one is best else _without_frames(one) for one in attempts] + [new]


def _without_frames(attempt: Attempt) -> Attempt:
    return replace(attempt, made=replace(attempt.made, frames=None))
