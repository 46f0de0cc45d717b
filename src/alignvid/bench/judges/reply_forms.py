"""The forms that a reply comes in: thoughts before it, JSON, a box, a closing line.

Patterns are bounded or possessive, so that the time is linear in the reply.
"""

from __future__ import annotations

import json
import re
import unicodedata

_THOUGHT_TAG = re.compile(r"[<\[◁](/?)(?:seed:)?(think|thinking|thought|reasoning)[>\]▷]")
_SPACE = re.compile(r"\s++")
_FENCE = re.compile(r"\s*+```[ \t]*+\w{0,12}[ \t]*+\n")
_ANSWER_KEYS = frozenset({"answer", "final_answer", "final answer", "response", "result", "verdict", "prediction"})
_BOX = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]{0,60}\}){0,80})\}")
_TAGGED = re.compile(r"<answer>([^<]{0,120})</answer>|<\|begin_of_box\|>([^<]{0,120})<\|end_of_box\|>")
_MARKS = r"[ *_`#>~\"'(\[{$-]{0,8}"
_FIELD = re.compile(r"\"(?:final[ _])?answer\" ?: ?\"((?:yes|no)\b[^\"]{0,120})\"")
_CLOSING_LINE = re.compile(
    rf"^{_MARKS}(?:(?:the|my|so|thus|hence|therefore|final|short),? ){{0,4}}(?:answer|verdict|conclusion)"
    rf"{_MARKS}(?:\bis\b|[:=]){_MARKS}((?:yes|no)\b[^\n]*+)$",
    re.MULTILINE,
)
_PLACES = (_BOX, _TAGGED, _FIELD, _CLOSING_LINE)


def plain_characters(reply: str) -> str:
    """The reply in lower case, each character in its plain form, without zero-width marks."""
    forms = {
        ord(character): "" if unicodedata.category(character) == "Cf" else unicodedata.normalize("NFKC", character)
        for character in set(reply)
        if not character.isascii()
    }
    return reply.translate(forms).lower()


def plain_spaces(text: str) -> str:
    """Quotes of one kind, and one space or line break where there are several."""
    for quote in "“”„«»‹›":
        text = text.replace(quote, '"')
    text = text.replace("’", "'").replace("‘", "'")
    return _SPACE.sub(lambda found: "\n" if "\n" in found[0] else " ", text)


def without_thoughts(text: str) -> str | None:
    """What is said outside of thoughts; None if one is cut off, or closed by another name.

    With some models the template of the chat opens the first thought, so that a reply begins inside it.
    """
    said: list[str] = []
    thoughts: list[str] = []
    at = 0
    for tag in _THOUGHT_TAG.finditer(text):
        if not tag[1]:
            if not thoughts:
                said.append(text[at : tag.start()])
            thoughts.append(tag[2])
        elif not thoughts:
            said.clear()
        elif thoughts.pop() != tag[2]:
            return None
        at = tag.end()
    return None if thoughts else "".join(said) + text[at:]


def without_fence(text: str) -> str:
    """A reply that begins with a fence of Markdown, from its second line on."""
    fence = _FENCE.match(text)
    return text[fence.end() :] if fence else text


def answers_in_json(text: str) -> tuple[list[str], str] | None:
    """The answers that a JSON object gives, and what follows it; None if the reply does not begin with an object."""
    text = without_fence(text).lstrip()
    if not text.startswith("{"):
        return None
    try:
        pairs, end = json.JSONDecoder(object_pairs_hook=list, strict=False).raw_decode(text)
    except (ValueError, RecursionError):  # cut off, or nested too deep
        return None
    named = [value for name, value in pairs if name in _ANSWER_KEYS]
    values = named or [value for _, value in pairs[:1] if len(pairs) == 1]
    return [value if isinstance(value, str) else "" for value in values], text[end:]


def stated_answers(text: str) -> list[str]:
    """What stands in boxes, in answer tags, in a field of JSON, and in lines such as "Final answer: yes"."""
    return [match[match.lastindex or 0] for form in _PLACES for match in form.finditer(text)]
