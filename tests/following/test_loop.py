"""The loop on made frames, and its ranking; no model."""

import numpy as np
import pytest

from alignvid.errors import InputError, JudgeError
from alignvid.following.attempts import Made, best_of
from alignvid.following.floors import Floor
from alignvid.following.limits import Limits
from alignvid.following.loop import Judging, never, run_loop, unwatched
from alignvid.following.motion import STILL_BELOW, motion
from alignvid.following.questions import Question

QUESTIONS = (Question("Is it shown?"), Question("Is the rest there?", about="rest"))


def clip(*, moves: bool = True) -> np.ndarray:
    frames = np.full((3, 128, 128, 3), 90, np.uint8)
    if moves:
        frames[1:, 8:24, 8:24] = 250
    return frames


def made(frames: np.ndarray, seconds: float = 1.0) -> Made:
    facts = {"rung": "test", "recipe": {}, "forwards": 10, "active_forwards": 3, "acted": 30, "proof": None}
    return Made(frames=frames, file=None, seconds=seconds, **facts)


def loop(answers, *, limits=None, moving=None, should_stop=never, on_attempt=unwatched, seconds=1.0, **judging):
    """A loop whose judge gives these answers, one pair for each attempt."""
    seeds, turns = [], iter(answers)

    def make(number, seed):
        seeds.append(seed)
        return made(clip(moves=moving is None or moving[number - 1]), seconds)

    asked = {"judge": lambda frames, questions: next(turns), "questions": QUESTIONS, "must_move": True, **judging}
    watched = {"folder": None, "on_attempt": on_attempt, "should_stop": should_stop}
    return run_loop(make, Judging(**asked), limits or Limits.of(None, None), seed=7, **watched), seeds


def test_it_ends_with_the_first_attempt_that_is_right_in_everything_and_each_has_new_noise():
    found, seeds = loop([(0, 1), (1, 0), (1, 1)])
    assert (found.ended, found.is_followed, seeds, found.forwards) == ("followed", True, [7, 8, 9], 30)
    assert found.best.number == 3 and str(found) == "followed in attempt 3"


def test_the_best_is_first_right_about_the_edit_then_about_the_rest_and_the_earliest_of_equals():
    found, _ = loop([(0, 1), (1, 0), (0, 1), (1, 0)], limits=Limits.of(4, None))
    assert (found.ended, found.is_followed, found.best.number) == ("limit", False, 2)
    assert str(found) == "not followed in 4 attempts, the best is attempt 2"
    assert [attempt.made.frames is None for attempt in found.attempts] == [True, False, True, False]
    assert best_of(found.attempts[2:]).number == 4


def test_a_video_that_stands_still_is_not_followed_whatever_the_judge_says():
    found, _ = loop([(1, 1), (1, 0)], moving=[False, True], limits=Limits.of(2, None))
    assert [attempt.is_still for attempt in found.attempts] == [True, False]
    assert not found.is_followed and found.best.number == 2
    allowed, _ = loop([(1, 1)], moving=[False], must_move=False)
    assert allowed.is_followed


def test_a_floor_counts_with_the_rest_and_a_metric_that_fails_is_no_answer():
    heights = iter((0.2, 0.9))
    floors = (Floor("likeness", lambda frames: next(heights), 0.5),)
    found, _ = loop([(1, 1), (1, 1)], floors=floors)
    assert found.is_followed and found.best.number == 2 and found.attempts[0].rank == (2, 1)
    with pytest.raises(JudgeError, match="The metric 'likeness' failed: StopIteration"):
        loop([(1, 1)], floors=floors)
    with pytest.raises(InputError, match="floor of 'x' is nan"):
        Floor("x", len, float("nan"))


def test_it_can_be_stopped_between_attempts_and_says_what_was_made():
    seen = []
    found, seeds = loop([(0, 0)] * 6, should_stop=lambda: len(seen) == 2, on_attempt=seen.append)
    assert (found.ended, seeds) == ("stopped", [7, 8]) and [one.number for one in seen] == [1, 2]
    assert loop([], should_stop=lambda: True)[0].best is None


def test_no_attempt_begins_after_the_minutes_and_the_first_is_always_made():
    assert len(loop([(0, 0)] * 9, limits=Limits.of(None, 1.0), seconds=25.0)[1]) == 3
    assert len(loop([(0, 0)], limits=Limits.of(None, 0.001), seconds=25.0)[1]) == 1


def test_a_judge_that_fails_on_the_way_leaves_the_attempts_before():
    with pytest.raises(
        JudgeError, match=r"Attempt 2 was not judged: The judge gave 1 answers to 2 questions"
    ) as raised:
        loop([(1, 0), (1,)])
    assert [attempt.number for attempt in raised.value.attempts] == [1]


@pytest.mark.parametrize(
    ("budget", "minutes", "message"),
    [
        (0, None, "budget 0 is out of range"),
        (-1, None, "budget -1"),
        (2.5, None, "budget 2.5"),
        (True, None, "budget True"),
        (float("nan"), None, "budget nan"),
        (None, 0, "minutes 0"),
        (None, float("nan"), "minutes nan"),
        (None, float("inf"), "minutes inf"),
        (6, 20, "two limits; give one of them"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(budget, minutes, message, unchecked_types):
    with pytest.raises(InputError, match=message):
        Limits.of(budget, minutes)


def test_motion_is_that_of_a_place_and_not_of_grain_or_a_fade():
    rng = np.random.default_rng(0)
    grain = np.clip(clip(moves=False) + rng.normal(0, 6, (3, 128, 128, 3)), 0, 255).astype(np.uint8)
    fade = clip(moves=False) + np.arange(3, dtype=np.uint8)[:, None, None, None] * 40
    assert motion(clip(moves=False)) == motion(clip()[:1]) == 0
    assert motion(fade) < 1 and motion(grain) < STILL_BELOW < 100 < motion(clip())
    assert motion(np.zeros((2, 33, 17, 3), np.uint8)) == 0
