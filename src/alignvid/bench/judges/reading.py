"""What a judge's text says: YES, NO or, in any doubt, UNPARSED.

The judge is asked to reply "with 'yes' or 'no' followed by a brief explanation", so the answer is the reply's first
word, bare or in quotes and markup; or it stands after the explanation in a place that is made for an answer, such as a
box. A substring is no answer: "now", "know", "not sure" and "no idea" say neither. A reply that takes its answer back
("Yes, but no") says neither, too.
"""

from __future__ import annotations

import re

from alignvid.bench.judges.reply_forms import (
    answers_in_json,
    plain_characters,
    plain_spaces,
    stated_answers,
    without_fence,
    without_thoughts,
)
from alignvid.bench.verdicts import Verdict

_OPPOSITE = {Verdict.YES: "no", Verdict.NO: "yes"}
_MARKUP = r"[\s*_`#>~\"'\[({.,:;!$-]"
"""What may stand around the first word without changing it."""
_TAG = r"</?(?:answer|b|i|em|strong|p|s)>|<\|[a-z_]{1,30}\|>|\\(?:boxed|text(?:bf|it|rm)?|math(?:bf|it|rm))(?=\{)"
_LEAD = re.compile(rf"(?:{_MARKUP}|{_TAG})*+")
_ITEM = re.compile(r"(?:\d{1,2}|[a-d])[.):]\s")
""""1. Yes", "b) No"."""
_ANSWER_IS = re.compile(
    rf"(?:(?:the|my|so the|final|short) ){{0,4}}(?:answer|response|verdict|assistant|a(?=:))"
    rf"(?: to (?:the|this|your) question)?(?:{_MARKUP}*?(?:\bis\b|[:=-])|[*_`]{{0,4}}\n)"
)
_WORD = re.compile(r"(yes|no)(?![^\W_])(?!['-]\w)")
_EITHER = re.compile(r"\W{0,3}(?:/|\||&|\bor\b|\band\b)\W{0,3}(?:yes|no)\b")
"""Both words offered at once: "yes/no", "yes or no", "'yes' and 'no'"."""
_SUBJECTS = "the|there|this|that|these|those|it|its|he|she|they|we|i|you|a|an|because|since|as|in|at|on|based|but"
_NO_OF_A_NOUN = re.compile(rf"\s+(?!(?:{_SUBJECTS}|no|yes)\b)\w")
""""No ball is seen" is no answer to "Has the ball gone?"; "No the ball is blue" is one."""
_NUMBER = re.compile(r"\.?\s*\d")
_UNSURE = (
    r"\bnot sure\b|\bunsure\b|\buncertain\b|\bunclear\b|"
    r"(?:cannot|can not|can't|could not|couldn't|unable to|impossible to|not possible to) (?:be )?"
    r"(?:tell|told|say|said|determine|know|judge|decide|answer|confirm|verify)"
)
_DOUBT = re.compile(rf"[\s,.;:–—-]++(?:but |and |because |since )?(?:i|we|one|it)\b[^.!?\n]{{0,20}}?(?:{_UNSURE})")
"""Directly after the first word, "I cannot tell" takes it back; "I cannot see a ball" explains it."""
_ANY_DOUBT = re.compile(_UNSURE)
_BEGINS = r"(?:^|[.!?,;:\n–—()]|\s-|\bbut|\brather|\bactually|\bor|\banswer is|\banswer:)[\s*_`\"'\[{>]{0,8}"
_OWN_ANSWER = {
    "yes": re.compile(rf"{_BEGINS}\byes\b(?!-)(?!')"),
    "no": re.compile(rf"{_BEGINS}\bno\b(?!-?\s?\w)(?!')"),
}
"""Where a word stands as an answer: begins a clause, and is no "no" that belongs to a noun."""


def read_verdict(reply: str) -> Verdict:
    """The verdict that a reply begins with or states in a box; UNPARSED where it says none, or both."""
    text = without_thoughts(plain_characters(reply))
    if text is None:
        return Verdict.UNPARSED
    if (answers := answers_in_json(text)) is not None:
        return _verdict_of_json(*answers)
    text = plain_spaces(without_fence(text))
    found = _WORD.match(_from_first_word(text))
    stated = _stated_verdict(text)
    if found is None:
        return stated or Verdict.UNPARSED
    first = _first_verdict(text)
    return first if stated in (None, first) else Verdict.UNPARSED


def _first_verdict(text: str) -> Verdict:
    """The verdict of the first word."""
    text = _from_first_word(text)
    if (found := _WORD.match(text)) is None:
        return Verdict.UNPARSED
    verdict, rest = Verdict(found[1]), text[found.end() :]
    return Verdict.UNPARSED if _is_taken_back(verdict, rest) or _is_no_answer(verdict, rest) else verdict


def _stated_verdict(text: str) -> Verdict | None:
    """What boxes and closing lines agree on, if nothing else in the reply contradicts them; None without any."""
    verdicts = {_first_verdict(answer) for answer in stated_answers(text)} - {Verdict.UNPARSED}
    if not verdicts:
        return None
    if len(verdicts) > 1 or _ANY_DOUBT.search(text):
        return Verdict.UNPARSED
    (verdict,) = verdicts
    is_contradicted = _OWN_ANSWER[_OPPOSITE[verdict]].search(text) is not None
    return Verdict.UNPARSED if is_contradicted else verdict


def _verdict_of_json(answers: list[str], rest: str) -> Verdict:
    verdicts = {_first_verdict(plain_spaces(answer)) for answer in answers}
    if len(verdicts) != 1 or (verdict := verdicts.pop()) is Verdict.UNPARSED:
        return Verdict.UNPARSED
    is_contradicted = _OWN_ANSWER[_OPPOSITE[verdict]].search(plain_spaces(rest)) is not None
    return Verdict.UNPARSED if is_contradicted else verdict


def _from_first_word(text: str) -> str:
    """Without markup, the number of a list's item and "the answer is"."""
    text = _without_lead(text)
    if announced := _ANSWER_IS.match(text):
        text = _without_lead(text[announced.end() :])
    return text


def _without_lead(text: str) -> str:
    for part in (_LEAD, _ITEM, _LEAD):
        if found := part.match(text):
            text = text[found.end() :]
    return text


def _is_no_answer(verdict: Verdict, rest: str) -> bool:
    """A first word that belongs to something else: a question, "no idea", "No. 5"."""
    closed = rest.lstrip("*_`\"'")
    if closed.startswith("?"):
        return True
    return verdict is Verdict.NO and bool(_NO_OF_A_NOUN.match(rest) or _NUMBER.match(rest))


def _is_taken_back(verdict: Verdict, rest: str) -> bool:
    """The other word offered beside it, said as an answer of its own later on, or doubt right after it."""
    other = _OWN_ANSWER[_OPPOSITE[verdict]]
    return bool(_EITHER.match(rest) or _DOUBT.match(rest) or other.search(rest))
