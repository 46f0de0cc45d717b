"""What a judge's text says: YES, NO or, in any doubt, UNPARSED.

The judge is asked to reply "with 'yes' or 'no' followed by a brief explanation", so the answer is the reply's first
word, bare or in quotes and markup. A substring is no answer: "now", "know", "not sure" and "no idea" say neither. A
reply that takes its first word back ("Yes, but no") says neither, too.
"""

from __future__ import annotations

import re
import unicodedata

from alignvid.bench.verdicts import Verdict

_OPPOSITE = {"yes": "no", "no": "yes"}
_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?</\1>", re.DOTALL)
_OPEN_THOUGHT = re.compile(r"<(think|thinking|reasoning)>|</(think|thinking|reasoning)>")
_MARKUP = r"[\s*_`#>~\"'\[({.,:;!-]"
"""What may stand around the first word without changing it."""
_TAG = r"</?(?:answer|b|i|em|strong|p)>"
_LEAD = re.compile(rf"(?:{_MARKUP}|{_TAG}|\\boxed)*")
_ANSWER_IS = re.compile(
    rf"(?:the |my |so the |final |short )*answer(?: to (?:the|this|your) question)?{_MARKUP}*?\s*(?:is\b|[:=-])"
)
_WORD = re.compile(r"(yes|no)(?![^\W_])(?!['-]\w)")
_EITHER = re.compile(r"\W{0,3}(?:/|\||&|\bor\b|\band\b)\W{0,3}(?:yes|no)\b")
"""Both words offered at once: "yes/no", "yes or no", "'yes' and 'no'"."""
_SUBJECTS = "the|there|this|that|these|those|it|its|he|she|they|we|i|you|a|an|because|since|as|in|at|on|based|but"
_NO_OF_A_NOUN = re.compile(rf"\s+(?!(?:{_SUBJECTS}|no|yes)\b)\w")
""""No ball is seen" is no answer to "Has the ball gone?"; "No the ball is blue" is one."""
_NUMBER = re.compile(r"\.?\s*\d")
_DOUBT = re.compile(
    r"[\s,.;:–—-]+(?:but |and |because |since )?(?:i|we|one|it)\b[^.!?\n]{0,20}?"
    r"(?:\bnot sure\b|\bunsure\b|\buncertain\b|"
    r"(?:cannot|can not|can't|could not|couldn't|unable to|impossible to|not possible to) (?:be )?"
    r"(?:tell|told|say|said|determine|know|judge|decide|answer|confirm|verify))"
)
"""Directly after the first word, "I cannot tell" takes it back; "I cannot see a ball" explains it."""


def read_verdict(reply: str) -> Verdict:
    """The verdict that a reply begins with; UNPARSED where it does not say one, or says both."""
    text = _plain(reply)
    if text is None or (found := _WORD.match(text)) is None:
        return Verdict.UNPARSED
    word, rest = found[1], text[found.end() :]
    if _is_taken_back(word, rest) or _is_no_answer(word, rest):
        return Verdict.UNPARSED
    return Verdict.YES if word == "yes" else Verdict.NO


def _plain(reply: str) -> str | None:
    """The reply in lower case from its first word on, without thoughts, markup and "the answer is"; None if cut off."""
    text = unicodedata.normalize("NFKC", reply).lower()
    text = "".join(character for character in text if unicodedata.category(character) != "Cf")  # zero-width marks
    for quote in "“”„«»‹›":
        text = text.replace(quote, '"')
    text = _THOUGHT.sub("", text.replace("’", "'").replace("‘", "'"))
    if _OPEN_THOUGHT.search(text):
        return None
    text = _without_lead(text)
    if announced := _ANSWER_IS.match(text):
        text = _without_lead(text[announced.end() :])
    return text


def _without_lead(text: str) -> str:
    lead = _LEAD.match(text)
    return text[lead.end() :] if lead else text


def _is_no_answer(word: str, rest: str) -> bool:
    """A first word that belongs to something else: a question, "no idea", "No. 5"."""
    closed = rest.lstrip("*_`\"'")
    if closed.startswith("?"):
        return True
    return word == "no" and bool(_NO_OF_A_NOUN.match(rest) or _NUMBER.match(rest))


def _is_taken_back(word: str, rest: str) -> bool:
    """The other word offered beside it, said as an answer of its own later on, or doubt right after it."""
    return bool(_EITHER.match(rest) or _DOUBT.match(rest) or _answer_of_its_own(_OPPOSITE[word]).search(rest))


def _answer_of_its_own(word: str) -> re.Pattern[str]:
    """Where a word stands as an answer: begins a clause, and is no "no" that belongs to a noun."""
    begins = r"(?:^|[.!?,;:\n–—(]|\s-|\bbut|\brather|\bactually|\bor|\banswer is|\banswer:)[\s*_`]*"
    noun = r"(?!-?\s*\w)" if word == "no" else "(?!-)"
    return re.compile(rf"{begins}\b{word}\b{noun}(?!')")
