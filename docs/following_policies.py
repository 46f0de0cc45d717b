"""Policies of a loop, replayed from the records of clips: which clip each comes to, and at what cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from alignvid.bench.data.omitshapes import omitshapes, scene_of
from alignvid.bench.runs.loops import made_wrong
from alignvid.following import PictureRule
from alignvid.following.attempts import rank_of
from alignvid.following.motion import STILL_BELOW
from alignvid.following.questions import Answer, Answered, Question
from alignvid.miniature.drawing import first_frame
from following_clips import PREVIEWED, SETS, Clip, Key, Table, previews, read

DRAWS = 20
"""Times that a judge's random errors are drawn anew; scenes, clips and noise stay."""


class Records(NamedTuple):
    clips: Table
    previews: Mapping[Key, Mapping[int, tuple[bool, bool]]]

    @classmethod
    def of(cls, folder: Path) -> Records:
        return cls(read(folder), previews(folder))


class Ending(NamedTuple):
    """What a policy came to with one scene and seed."""

    clip: Clip
    attempts: int
    forwards: int
    says_followed: bool


Ladder = Callable[[int, "Clip | None"], str]
"""The set of the next attempt, from its number and the finished clip before."""


@dataclass(frozen=True)
class Policy:
    """Attempts until the asked judge is content, or all of them; with how wrong a judge."""

    ladder: Ladder
    most: int
    stops: bool = True
    false_yes: float = 0.0
    false_no: float = 0.0
    looks: tuple[int, ...] = ()
    """Steps after which the asked judge sees a preview. An attempt ends after the last of them if none shows the edit:
    a no said more than once is a confident one. The last attempt is always finished."""

    def replay(self, records: Records, scene: str, seed: int, draw: int = 0) -> Ending:
        """What it comes to; `draw`: which of the random errors of a judge that is made wrong.

        Raises: KeyError where a clip is missing.
        """
        tried: list[tuple[Clip, tuple[int, int], bool]] = []
        forwards = attempt = 0
        for attempt in range(1, self.most + 1):
            name = self.ladder(attempt, tried[-1][0] if tried else None)
            clip = records.clips[name, scene, seed, attempt]
            if self.looks and attempt < self.most and self._is_hopeless(records.previews[clip.key]):
                forwards += SETS[name].forwards(self.looks[-1])
                continue
            forwards += SETS[name].forwards()
            answers, is_still = self._answers(clip, f"{scene}\0{seed}\0{draw}\0{attempt}"), clip.motion < STILL_BELOW
            is_right = all(one.is_right for one in answers) and not is_still
            tried.append((clip, rank_of(answers, is_still), is_right))
            if is_right and self.stops:
                break
        best = max(tried, key=lambda one: one[1])
        return Ending(best[0], attempt, forwards, best[2])

    def _is_hopeless(self, said: Mapping[int, tuple[bool, bool]]) -> bool:
        return not any(said[step][0] for step in self.looks)

    def _answers(self, clip: Clip, key: str) -> tuple[Answered, ...]:
        said = zip(QUESTIONS, (clip.asked_edit, clip.asked_rest), strict=True)
        answers = [Answered(question, Answer(float(value))) for question, value in said]
        return made_wrong(answers, false_yes=self.false_yes, false_no=self.false_no, key=key)


def _questions() -> tuple[Question, ...]:
    sample = omitshapes().samples[0]
    return PictureRule(Image.fromarray(first_frame(scene_of(sample.id))), sample.prompt).questions


QUESTIONS = _questions()


def always(name: str) -> Ladder:
    return lambda attempt, last: name


def after(count: int, name: str) -> Ladder:
    """The preset so many times, then another set."""
    return lambda attempt, last: "preset" if attempt <= count else name


def by_fault(stronger: str, weaker: str) -> Ladder:
    """The preset first; then stronger where the edit was missing, weaker where the rest was touched."""
    return lambda attempt, last: "preset" if last is None else weaker if last.asked_edit else stronger


ARMS = {
    "γ 1 once": Policy(always("plain"), 1),
    "guidance 4 once, γ 1": Policy(always("guided"), 1),
    "preset once": Policy(always("preset"), 1),
    "best of 3 at γ 1": Policy(always("plain"), 3, stops=False),
    "best of 3 at the preset": Policy(always("preset"), 3, stops=False),
    "loop at γ 1, budget 3": Policy(always("plain"), 3),
    "**loop at the preset, budget 3**": Policy(always("preset"), 3),
}
MORE_ATTEMPTS = {"**loop at the preset, budget 6**": Policy(always("preset"), 6)}
WRONG = {
    f"{100 * rate:g} % false {what}": replace(Policy(always("preset"), 3), **{f"false_{what}": rate})
    for rate in (0.03, 0.1)
    for what in ("yes", "no")
} | {
    f"{100 * rate:g} % false yes and no": Policy(always("preset"), 3, false_yes=rate, false_no=rate)
    for rate in (0.03, 0.1)
}
LADDERS = {
    "preset ×3": Policy(always("preset"), 3),
    **{
        f"{name} {how}": policy
        for name in ("γ 2.4", "words", "guided first")
        for how, policy in {
            "×3": Policy(always(name), 3),
            "after one preset": Policy(after(1, name), 3),
            "after two presets": Policy(after(2, name), 3),
            "if the edit is missing": Policy(by_fault(name, "preset"), 3),
        }.items()
    },
}
LOOKED = {"preset ×3": LADDERS["preset ×3"]} | {
    f"ended at a no after step {' and '.join(map(str, steps))}": Policy(always("preset"), 3, looks=steps)
    for steps in (*((step,) for step in PREVIEWED), (3, 5), (4, 6), PREVIEWED)
}
"""Early stops; one no, or several."""


def endings(policy: Policy, records: Records, cases: Mapping[str, Sequence[int]]) -> list[list[Ending]]:
    """By scene: of each of its seeds and, where the judge is made wrong, of several draws of its errors."""
    draws = range(DRAWS if policy.false_yes or policy.false_no else 1)
    return [
        [policy.replay(records, scene, seed, draw) for seed in seeds for draw in draws]
        for scene, seeds in cases.items()
    ]


def known(records: Records, policies: Iterable[Policy]) -> dict[str, list[int]]:
    """Seeds by scene, of which every policy can be replayed."""
    policies, found = list(policies), dict[str, list[int]]()
    for scene, seed in dict.fromkeys((scene, seed) for _, scene, seed, _ in records.clips):
        try:
            for policy in policies:
                policy.replay(records, scene, seed)
        except KeyError:
            continue
        found.setdefault(scene, []).append(seed)
    return found
