"""What a judge is given, what it gives back, and what it says about itself."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from alignvid.bench.data.samples import Question, Sample
from alignvid.bench.records import VideoRecord
from alignvid.bench.verdicts import Verdict
from alignvid.errors import AlignvidError, InputError, pass_on_interrupt

if TYPE_CHECKING:
    from alignvid.media.videos import Clip

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One video, and the questions about it that are to be answered."""

    job: str
    sample: Sample
    video: Path
    questions: tuple[Question, ...]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back for one question."""

    verdict: Verdict
    text: str | None = None
    """As it came."""
    p_yes: float | None = None
    """Probability of yes among yes and no; protocol "logit" only."""
    error: str | None = None
    """Why it FAILED."""
    attempts: int = 1
    seconds: float | None = None

    @classmethod
    def failed(cls, error: str, *, attempts: int = 1) -> Reply:
        """No reply, for this reason."""
        return cls(verdict=Verdict.FAILED, error=" ".join(error.split()), attempts=attempts)


@dataclass(frozen=True, kw_only=True)
class JudgeIdentity:
    """All that decides an answer besides video and question."""

    judge: str
    """Kind and model: "rule", "transformers:Qwen/Qwen2.5-VL-32B-Instruct", …"""
    protocol: str
    settings: Mapping[str, Any]
    """Plain data; no address, no key, nothing about speed."""

    @property
    def digest(self) -> str:
        """Of everything above; answers under one digest can be compared."""
        values = [self.judge, self.protocol, dict(self.settings)]
        return hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """What a user may say about a judge; each kind takes some of it. None: the kind's own choice."""

    protocol: str | None = None
    model: str | None = None
    """A folder, a Hub id, or the name under which a server knows it."""
    revision: str | None = None
    """Of a Hub model."""
    device: str | None = None
    dtype: str | None = None
    base_url: str | None = None
    api_key: str | None = None
    """Goes into no record."""
    concurrency: int | None = None
    """Most requests in flight."""
    timeout_s: float | None = None
    """Of one request."""
    send: Literal["video", "images"] | None = None
    """How frames are sent: as one video, or as images to servers that take no video."""

    def given(self) -> set[str]:
        """The names of the options that say something."""
        return {item.name for item in fields(self) if getattr(self, item.name) is not None}


Deliver = Callable[[Case, Question, Reply], None]
"""Takes each reply once, as soon as it is there."""


class Judge(ABC):
    """Answers questions about videos."""

    @property
    @abstractmethod
    def identity(self) -> JudgeIdentity:
        """What decides its answers."""

    def check(self, samples: Sequence[Sample], videos: Sequence[VideoRecord]) -> None:  # noqa: B027  # most know any
        """Look at a run before anything is written. Raises: InputError if this judge knows nothing of such data."""

    @abstractmethod
    def answer(self, cases: Iterable[Case], deliver: Deliver) -> None:
        """Deliver one reply to each question of each case, in any order.

        What goes wrong with one question is its FAILED reply. Raises: AlignvidError if nothing more can be answered;
        what was delivered stays.
        """

    def write(self, shown: Clip, request: str, max_tokens: int) -> str:
        """A text about what is shown. Raises: InputError where this judge writes none; JudgeError without a reply."""
        raise InputError(
            f'The judge {self.identity.judge!r} writes no questions; give them: --ask "Does the cat wear sunglasses?".'
        )


@dataclass(frozen=True, kw_only=True)
class JudgeKind:
    """A kind of judge, as an entry point names it."""

    name: str
    protocols: tuple[str, ...]
    """The first is used unless another is asked for."""
    options: frozenset[str]
    """Names of the options of `JudgeOptions` that it takes, besides the protocol."""
    open: Callable[[JudgeOptions], Judge]
    """Load or reach it; the protocol is given. Raises: AlignvidError if it cannot be had."""


def answer_in_turn(cases: Iterable[Case], deliver: Deliver, replies: Callable[[Case], Iterator[Reply]]) -> None:
    """Answer case after case in this process; an error fails the questions of its case that have no reply yet."""
    for case in cases:
        waiting = list(case.questions)
        start = time.monotonic()
        try:
            for reply in replies(case):
                deliver(case, waiting.pop(0), replace(reply, seconds=time.monotonic() - start))
                start = time.monotonic()
        except AlignvidError as error:
            _fail(case, waiting, str(error), deliver)
        except Exception as error:  # a judge's trouble with one video must not cost the others
            pass_on_interrupt(error)
            _log.warning("Judging %s failed", case.video, exc_info=True)
            _fail(case, waiting, f"{type(error).__name__}: {error}", deliver)


def _fail(case: Case, questions: list[Question], error: str, deliver: Deliver) -> None:
    for question in questions:
        deliver(case, question, Reply.failed(error))
