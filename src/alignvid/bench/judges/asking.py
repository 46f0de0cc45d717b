"""How a vision-language judge is asked, and how its reply becomes a verdict.

Protocol "paper": the published prompt, greedy, up to 128 tokens, and the text is read strictly. Protocol "logit": the
same prompt and frames, one token, and the probability of yes among yes and no decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from alignvid.bench.data.samples import Question
from alignvid.bench.judges.base import Reply
from alignvid.bench.judges.frames import Sampling
from alignvid.bench.judges.reading import read_verdict
from alignvid.bench.verdicts import Verdict

PROTOCOLS = ("paper", "logit")
PROMPT = (
    "Question: {question}\n\n"
    "Please watch the video carefully and answer the question based solely on what you observe. "
    "Reply with 'yes' or 'no' followed by a brief explanation of your reasoning."
)
MAX_TOKENS = {"paper": 128, "logit": 1}
TOP_TOKENS = 20
"""The most that servers say about the first token; the judge in process looks at as many."""
THRESHOLD = 0.5
_READER = "strict 2"
"""Another number where the same text could get another verdict."""
_WORD_MARKS = "Ġ▁Ċ \t\r\n"
"""How tokenizers write a space or a line break; some servers give the tokens as they are in the vocabulary."""
_ROUNDING = 1e-3
"""A log-probability may be above 0 by so much: that of 1, in a format of 16 bits."""


def prompt(question: Question) -> str:
    """The text that follows the video."""
    return PROMPT.format(question=question.question)


def shared_settings(protocol: str, sampling: Sampling) -> dict[str, Any]:
    """What every vision-language judge says of itself."""
    reading = {"reader": _READER} if protocol == "paper" else {"threshold": THRESHOLD, "top_tokens": TOP_TOKENS}
    return {"prompt": PROMPT, "max_tokens": MAX_TOKENS[protocol], "frames": sampling.to_dict(), **reading}


def text_reply(text: str, **more: Any) -> Reply:
    """The reply of protocol "paper"."""
    return Reply(verdict=read_verdict(text), text=text, **more)


def logit_reply(text: str, top: Iterable[tuple[str | None, float]], **more: Any) -> Reply:
    """The reply of protocol "logit", from the likeliest first tokens with their log-probabilities.

    FAILED where those of yes or no are no log-probabilities.
    """
    try:
        p_yes = probability_of_yes(top)
    except ValueError as error:
        return replace(Reply.failed(str(error)), **more)
    if p_yes is None or p_yes == THRESHOLD:
        return Reply(verdict=Verdict.UNPARSED, text=text, p_yes=p_yes, **more)
    return Reply(verdict=Verdict.YES if p_yes > THRESHOLD else Verdict.NO, text=text, p_yes=p_yes, **more)


def probability_of_yes(top: Iterable[tuple[str | None, float]]) -> float | None:
    """P(yes) / (P(yes) + P(no)), each summed over its spellings ("yes", " Yes", "▁YES"); None where neither is there.

    Only the likeliest tokens are seen: where one of the words is missing, its share counts as 0.

    Raises: ValueError if the log-probability of a spelling is not a number, or above 0.
    """
    mass = {"yes": 0.0, "no": 0.0}
    for token, log_probability in top:
        word = (token or "").strip(_WORD_MARKS).lower()
        if word in mass:
            if not log_probability <= _ROUNDING:
                raise ValueError(f"the log-probability of {token!r} is {log_probability:g}, which cannot be")
            mass[word] += math.exp(log_probability)
    total = sum(mass.values())
    return mass["yes"] / total if total else None
