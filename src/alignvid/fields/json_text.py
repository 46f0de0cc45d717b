"""JSON without its loopholes: what is read is what was written, and what is written can be read."""

from __future__ import annotations

import json
import math
import re
from typing import Any

_MOST_DIGITS = 300
"""Of a whole number: as many as a float can hold. Tokenizers of the Hub have one of 31."""
_DEEPEST = 64
"""Levels of lists and objects; our own records have 8."""
_SHOWN = 60
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def json_values(text: str | bytes, *, error: type[Exception], mends_text: bool = False) -> Any:
    """The value that JSON text stands for.

    Refused besides what is no JSON: a key twice in an object, NaN and Infinity, numbers too large for a float or of
    more than 300 digits, more than 64 levels, and half a character (a lone surrogate, which no file can hold).

    Args:
        text: A whole file or a line of it; a byte order mark is passed over.
        error: What is raised, with a reason that fits into a sentence.
        mends_text: Replace half characters by "�" in place of refusing them: for records that cost money or hours.
    """
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        values = json.loads(
            decoded.removeprefix("\ufeff"),
            object_pairs_hook=_object,
            parse_int=_whole,
            parse_float=_finite,
            parse_constant=_finite,
        )
        is_suspect = decoded.count("[") + decoded.count("{") > _DEEPEST or _has_surrogates(decoded)
        return _sound(values, 0, mends_text) if is_suspect else values
    except UnicodeDecodeError as problem:
        raise error(f"not UTF-8: byte {problem.start} is 0x{problem.object[problem.start]:02x}") from problem
    except RecursionError as problem:
        raise error(f"nested deeper than {_DEEPEST} levels") from problem
    except ValueError as problem:
        raise error(str(problem)) from problem


def json_bytes(values: Any, *, indent: int | None = None) -> bytes:
    """One JSON value and a line break, as UTF-8; half characters become "�". Raises: ValueError for NaN or Infinity."""
    return (mended(json.dumps(values, indent=indent, ensure_ascii=False, allow_nan=False)) + "\n").encode()


def mended(text: str) -> str:
    """The text with each lone surrogate replaced by "�", and pairs of them joined to the character that they mean."""
    if not _LONE_SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice; leave one out")
    return values


def _whole(text: str) -> int:
    if len(text.lstrip("-")) > _MOST_DIGITS:
        raise ValueError(f"the number {_shortened(text)} has {len(text)} digits; at most {_MOST_DIGITS} are read")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{_shortened(text)} is no finite number")
    return number


def _shortened(text: str) -> str:
    return text if len(text) <= 20 else f"{text[:17]}…"


def _sound(value: Any, level: int, mends_text: bool) -> Any:
    """The value, if it is not too deep and its text is text. Raises: RecursionError; ValueError."""
    if level == _DEEPEST and isinstance(value, dict | list):
        raise RecursionError
    if isinstance(value, str):
        if not mends_text and _LONE_SURROGATE.search(value):
            raise ValueError(f"{value[:_SHOWN]!a} holds half a character (a lone surrogate); write the whole one")
        return mended(value)
    if isinstance(value, dict):
        return {_sound(name, level, mends_text): _sound(item, level + 1, mends_text) for name, item in value.items()}
    if isinstance(value, list):
        return [_sound(item, level + 1, mends_text) for item in value]
    return value


def _has_surrogates(text: str) -> bool:
    return "\\ud" in text or "\\uD" in text or _LONE_SURROGATE.search(text) is not None
