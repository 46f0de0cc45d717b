"""What is asked about an attempt, and what a judge may answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

from alignvid.errors import AlignvidError, InputError, JudgeError, pass_on_interrupt
from alignvid.media.videos import Frames

About = Literal["edit", "rest"]
YES_ABOVE = 0.5
_MARKS = re.compile(
    r"\s*(?P<about>edit|rest)?\s*(?P<expected>yes|no)?\s*:\s*(?P<question>.*)", re.IGNORECASE | re.DOTALL
)


@dataclass(frozen=True)
class Question:
    """One yes/no question about a video, asked alone."""

    question: str
    """With its question mark: "Does the cat wear sunglasses?"."""
    expected_answer: Literal["yes", "no"] = "yes"
    """What a video that follows the prompt is answered."""
    about: About = "edit"
    """The change that the prompt asks for, or the rest, which must stay."""

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise InputError("A question is empty; ask for example 'Does the cat wear sunglasses?'.")

    @classmethod
    def parse(cls, text: str) -> Question:
        """Read "Does the cat wear sunglasses?", or with marks before a colon: "no: Has the cat left?", "rest: …",
        "rest no: …".

        Raises: InputError if nothing is asked.
        """
        match = _MARKS.fullmatch(text)
        if match is None or not (match["about"] or match["expected"]):
            return cls(" ".join(text.split()))
        about: About = "rest" if (match["about"] or "").lower() == "rest" else "edit"
        expected: Literal["yes", "no"] = "no" if (match["expected"] or "").lower() == "no" else "yes"
        return cls(" ".join(match["question"].split()), expected, about)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Answer:
    """What a judge says to one question."""

    p_yes: float | None
    """Probability of yes, 0 to 1; None where its reply says neither yes nor no."""
    text: str | None = None
    """Its words, if it has any."""


@dataclass(frozen=True)
class Answered:
    """A question with its answer."""

    question: Question
    answer: Answer

    @property
    def says(self) -> Literal["yes", "no"] | None:
        """What the answer comes to; None for one that says neither, or exactly both."""
        if self.answer.p_yes is None or self.answer.p_yes == YES_ABOVE:
            return None
        return "yes" if self.answer.p_yes > YES_ABOVE else "no"

    @property
    def is_right(self) -> bool:
        """Whether it is the answer of a video that follows the prompt."""
        return self.says == self.question.expected_answer

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**self.question.to_dict(), "p_yes": self.answer.p_yes, "text": self.answer.text}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Answered:
        """Read a dict written by `to_dict`."""
        question = Question(*(values[name] for name in ("question", "expected_answer", "about")))
        return cls(question, Answer(values["p_yes"], values["text"]))


Judge: TypeAlias = Callable[[Frames, tuple[Question, ...]], Sequence[Any]]
"""Answers about a video, uint8 frames of (frame, height, width, 3), in the order of the questions: an `Answer` each, a
probability of yes, a bool, or None for one that cannot be read.

It may have `questions`, which are asked where the caller gives none, and an `identity`, a text: answers of an earlier
run in the same folder are kept only if both are the same.
"""


def checked_questions(questions: Iterable[str | Question] | None, judge: Judge) -> tuple[Question, ...]:
    """The questions to ask: those given, else the judge's own.

    Raises: InputError if there are none, one is empty or is there twice, or none is about the edit.
    """
    if not callable(judge):
        raise InputError(f"The judge {judge!r} cannot be called; give a function of a video and its questions.")
    if isinstance(questions, str):
        questions = [questions]
    asked = tuple(
        replace(one) if isinstance(one, Question) else Question.parse(one)
        for one in (getattr(judge, "questions", ()) if questions is None else questions)
    )
    if not any(one.about == "edit" for one in asked):
        raise InputError(
            "No question asks whether the prompt is followed; give one, such as 'Does the cat wear sunglasses?'."
        )
    texts = [one.question for one in asked]
    if twice := next((text for text in texts if texts.count(text) > 1), None):
        raise InputError(f"The question {twice!r} is asked twice; leave one out.")
    return asked


def identity_of(judge: Judge) -> str:
    """What a judge calls itself."""
    named = getattr(judge, "identity", None) or getattr(judge, "__qualname__", None)
    return str(named or type(judge).__qualname__)


def asked(judge: Judge, frames: Frames, questions: tuple[Question, ...]) -> tuple[Answered, ...]:
    """Every question with the judge's answer.

    Raises: JudgeError if the judge fails, or gives another number of answers or something that is none.
    """
    try:
        found = judge(frames, questions)
        answers = [_answer(one) for one in found]
    except JudgeError:
        raise
    except AlignvidError as error:
        raise JudgeError(str(error)) from error
    except Exception as error:  # whatever a judge is made of: what it did not answer is said, with what was made kept
        pass_on_interrupt(error)
        raise JudgeError(f"The judge failed: {type(error).__name__}: {error}") from error
    if len(answers) != len(questions):
        raise JudgeError(f"The judge gave {len(answers)} answers to {len(questions)} questions; give one to each.")
    return tuple(Answered(*pair) for pair in zip(questions, answers, strict=True))


def _answer(value: Any) -> Answer:
    answer = value if isinstance(value, Answer) else Answer(None if value is None else float(value))
    if answer.p_yes is not None and not 0.0 <= answer.p_yes <= 1.0:
        raise JudgeError(f"The judge answered {answer.p_yes!r}; a probability of yes is 0 to 1, or None for no answer.")
    return answer
