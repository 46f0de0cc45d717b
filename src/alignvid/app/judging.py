"""Who says whether a prompt is followed: the rule that reads the miniature's pictures, or the command line's judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from alignvid.errors import InputError

if TYPE_CHECKING:
    from alignvid.following import Judge, Question
    from alignvid.generate.plan import Plan

RULE = "rule"


class Asked(NamedTuple):
    """A judge, and what it is asked; None: its own questions."""

    judge: Judge
    questions: tuple[Question, ...] | None


@dataclass(frozen=True)
class JudgeChoice:
    """The judge that the command line names."""

    name: str | None = None
    """None: the rule where it can read the model's pictures."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `JudgeOptions`: model, device, protocol, base_url, send."""


def judge_of(planned: Plan, questions: str, choice: JudgeChoice) -> Asked:
    """The judge of a run.

    Args:
        planned: The run.
        questions: One on each line; empty for the judge's own.
        choice: What the command line said.

    Raises: InputError if no judge can be had for it, or it asks its own questions; AlignvidError of the judge.
    """
    from alignvid.following import Question

    given = tuple(Question.parse(line) for line in questions.splitlines() if line.strip())
    if choice.name in (None, RULE):
        return Asked(_rule(planned, given), None)
    from alignvid.bench.judges import JudgeOptions, open_judge
    from alignvid.bench.judges.asker import Asker
    from alignvid.bench.judges.checklist import checklist

    judge = open_judge(str(choice.name), JudgeOptions(**choice.options))
    asker = Asker(judge, fps=planned.settings.fps)
    if given:
        return Asked(asker, given)
    if planned.image is None:
        raise InputError("Without a picture there is no checklist; write the questions yourself, one on each line.")
    return Asked(asker, tuple(checklist(judge, planned.image, planned.spec.prompt)))


def _rule(planned: Plan, given: tuple[Question, ...]) -> Judge:
    from alignvid.following import PictureRule

    if not planned.source.is_miniature or planned.image is None:
        raise InputError(
            "The rule reads the miniature's pictures alone; start the page with --judge transformers --judge-model "
            "NAME, or --judge openai --base-url ADDRESS."
        )
    if given:
        raise InputError("The rule asks its own two questions, from picture and prompt; leave the questions empty.")
    return PictureRule(planned.image, planned.spec.prompt)
