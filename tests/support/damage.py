"""Ways in which files really come back: cut short, of another type, nested, doubled, through another system's hands."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

VALUES = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 0.5, -0.5, 1e308),
    *("", " ", "x", "yes", "../up", "/etc/passwd", "a\0b", "é", "x" * 5000, "\ud83d", "nan", "1"),
    *([], {}, [None], [[]], {"a": 1}, {"": {}}, [1, 2], ["a"], {"file": "x"}),
)
"""What stands where something else belongs."""
RAW = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "9" * 5000,
    "[" * 3000 + "]" * 3000,
    '{"a":1,"a":2}',
    '"\\ud83d"',
    "00",
    "'x'",
)
"""What `json.dumps` would not write, but a file may hold."""


def places(values: Any, path: tuple = ()) -> list[tuple]:
    """Every place in plain data, the whole first."""
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [path, *(place for name, value in items for place in places(value, (*path, name)))]


def with_value(values: Any, place: tuple, change: Callable[[Any], Any]) -> Any:
    """A copy with another value at a place."""
    if not place:
        return change(values)
    values = copy.deepcopy(values)
    holder = values
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = change(holder[place[-1]])
    return values


def damaged_json(text: str, rng: random.Random) -> str:
    """The JSON of one value, with a field that is wrong, missing, strange, doubled or no JSON."""
    values = json.loads(text)
    place = rng.choice(places(values))
    match rng.randrange(6):
        case 0:
            return json.dumps(with_value(values, place, lambda value: rng.choice(VALUES)))
        case 1:
            marked = json.dumps(with_value(values, place, lambda value: "MARK"))
            return marked.replace('"MARK"', rng.choice(RAW), 1)
        case 2:
            return json.dumps(with_value(values, place, lambda value: _without_one(value, rng)))
        case 3:
            return json.dumps(with_value(values, place, lambda value: _with_one_more(value, rng)))
        case 4:
            return json.dumps(with_value(values, place, lambda value: _nested(value, rng.choice([1, 3, 500]))))
        case _:
            return json.dumps(with_value(values, place, lambda value: str(value) if rng.random() < 0.5 else [value]))


def damaged_bytes(content: bytes, rng: random.Random) -> bytes:
    """A file whose bytes were cut, flipped, doubled or written anew by another system."""
    at = rng.randrange(len(content) + 1)
    match rng.randrange(8):
        case 0:
            return content[:at]
        case 1:
            return content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]
        case 2:
            return content + content
        case 3:
            return b""
        case 4:
            return content[:at] + b"\0" * 64
        case 5:
            return content.decode(errors="replace").encode("utf-16")
        case 6:
            return b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n") + b"\r\n\r\n"
        case _:
            return content.rstrip(b"\n")


def _without_one(value: Any, rng: random.Random) -> Any:
    if not isinstance(value, dict | list) or not value:
        return None
    value = copy.copy(value)
    del value[rng.choice(list(value) if isinstance(value, dict) else range(len(value)))]
    return value


def _with_one_more(value: Any, rng: random.Random) -> Any:
    extra = rng.choice(VALUES)
    if isinstance(value, dict):
        return {**value, rng.choice(["extra", "", "schema_version", "id"]): extra}
    return [*value, *(value[:1] or [extra])] if isinstance(value, list) else [value, value]


def _nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value
