"""Plain data as dataclasses, each field checked against its annotation.

A dataclass or a TypedDict is the schema. What it says of a field (a type, a union, a `Literal`, an `Annotated` range)
is what a file may hold there; every message says the field, the value and what is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import PurePosixPath
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NotRequired,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

T = TypeVar("T")

_SHOWN = 60
_MOST_BITS = 1024
_WHOLE_NUMBERS = range(-(2**63), 2**63)

OPEN = object()
"""In the `Annotated` of a TypedDict: it may hold more fields than are read."""


@dataclass(frozen=True)
class Allowed:
    """What a value must be besides its type, for `Annotated`."""

    words: str
    """Such as "a number from 0 to 1"."""
    holds: Callable[[Any], bool]


def within(low: float, high: float = math.inf, *, kind: str = "a number") -> Allowed:
    """A number in a range, ends included."""
    words = f"{kind} of {low:g} or more" if high == math.inf else f"{kind} from {low:g} to {high:,g}"
    return Allowed(words, lambda value: low <= value <= high)


def _stays_inside(path: str) -> bool:
    parts = PurePosixPath(path.replace("\\", "/"))
    return bool(parts.parts) and not parts.is_absolute() and ".." not in parts.parts and not set("\0:") & set(path)


Count = Annotated[int, within(0, kind="a whole number")]
Positive = Annotated[int, within(1, kind="a whole number")]
Share = Annotated[float, within(0, 1)]
Duration = Annotated[float, within(0)]
InnerPath = Annotated[str, Allowed("a path that stays inside the folder", _stays_inside)]
"""Relative, and not through ".."."""


def read(kind: type[T], values: Any, *, what: str, error: type[Exception]) -> T:
    """The dataclass or TypedDict that plain data describes.

    Args:
        kind: Its annotations and defaults say which fields there are.
        values: What was read.
        what: Its name at the beginning of a sentence, such as "A recipe".
        error: What is raised, with a sentence that names the field, the value and what is allowed.
    """
    return read_as(kind, values, what=what, error=error)


def read_as(kind: Any, values: Any, *, what: str, error: type[Exception]) -> Any:
    """`read` for any annotation, such as `list[Sample]` or a union."""
    try:
        return _value(kind, values, "")
    except _Wrong as wrong:
        raise error(wrong.sentence(what)) from None


def is_finite_number(value: object) -> bool:
    """Whether a value is a number that a float can hold; a bool is none."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


class _Wrong(Exception):
    """A value that its annotation does not allow."""

    def __init__(self, path: str, verb: str) -> None:
        super().__init__(path, verb)
        self.path, self.verb = path, verb

    def sentence(self, what: str) -> str:
        return f"{f'{what}: the field {self.path!r}' if self.path else what} {self.verb}."


class _Field(NamedTuple):
    kind: Any
    is_required: bool


@cache
def _fields_of(kind: Any) -> dict[str, _Field]:
    """Every field that a file may hold, with its annotation."""
    hints = get_type_hints(kind, include_extras=True)
    if is_typeddict(kind):
        return {
            name: _Field(get_args(hint)[0] if get_origin(hint) is NotRequired else hint, _is_required(kind, hint))
            for name, hint in hints.items()
        }
    return {
        item.name: _Field(hints[item.name], item.default is MISSING and item.default_factory is MISSING)
        for item in fields(kind)
        if item.init
    }


def _is_required(kind: Any, hint: Any) -> bool:
    return kind.__total__ and get_origin(hint) is not NotRequired


def _value(kind: Any, value: Any, path: str) -> Any:
    """The value as its annotation wants it. Raises: _Wrong."""
    origin = get_origin(kind) or kind
    if kind is Any:
        return value
    if origin is Annotated:
        return _annotated(kind, value, path)
    if origin in (Union, UnionType):
        return _one_of(kind, value, path)
    if _is_record(origin):
        return _record(origin, value, path)
    if origin is Literal:
        if any(value == option and type(value) is type(option) for option in get_args(kind)):
            return value
    elif isinstance(origin, type) and issubclass(origin, Enum):
        if value in [member.value for member in origin]:
            return origin(value)
    elif origin in (list, tuple, Sequence):
        return _sequence(kind, origin, value, path)
    elif origin in (dict, Mapping):
        return _mapping(kind, value, path)
    elif _is_scalar(origin, value):
        return float(value) if origin is float else value
    raise _wrong(kind, value, path)


def _is_scalar(kind: Any, value: Any) -> bool:
    if kind in (None, NoneType):
        return value is None
    if isinstance(value, bool) or kind is bool:
        return kind is bool and isinstance(value, bool)
    if kind is float:
        return is_finite_number(value)
    return isinstance(value, kind) and (kind is not int or value in _WHOLE_NUMBERS)


def _annotated(kind: Any, value: Any, path: str) -> Any:
    base, *notes = get_args(kind)
    checks = [note for note in notes if isinstance(note, Allowed)]
    if OPEN in notes:
        return _record(base, value, path, is_open=True)
    try:
        found = _value(base, value, path)
    except _Wrong as wrong:
        raise (_wrong(kind, value, path) if wrong.path == path else wrong) from None
    if not all(check.holds(found) for check in checks):
        raise _wrong(kind, value, path)
    return found


def _one_of(kind: Any, value: Any, path: str) -> Any:
    """The first option that fits; else what is wrong within the option that the value resembles."""
    within_option = None
    for option in get_args(kind):
        try:
            return _value(option, value, path)
        except _Wrong as wrong:
            if wrong.path != path or (_is_record(option) and isinstance(value, Mapping)):
                within_option = wrong
    raise within_option or _wrong(kind, value, path)


def _is_record(kind: Any) -> bool:
    return is_dataclass(kind) or is_typeddict(kind)


def _record(kind: Any, value: Any, path: str, *, is_open: bool = False) -> Any:
    known = _fields_of(kind)
    if not isinstance(value, Mapping):
        raise _Wrong(path, f"is {_shown(value)}; it must be an object with the fields {', '.join(known)}")
    unknown = [name for name in value if name not in known]
    if unknown and not is_open:
        raise _Wrong(path, f"has no field {unknown[0]!r}; its fields are {', '.join(known)}")
    if missing := [name for name, item in known.items() if item.is_required and name not in value]:
        raise _Wrong(path, f"lacks the field {', '.join(map(repr, missing))}; its fields are {', '.join(known)}")
    found = {name: _value(item.kind, value[name], _joined(path, name)) for name, item in known.items() if name in value}
    return kind(**found, **{name: value[name] for name in unknown})


def _sequence(kind: Any, origin: Any, value: Any, path: str) -> Any:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise _wrong(kind, value, path)
    options = get_args(kind)
    if origin is tuple and options and options[-1] is not Ellipsis:
        if len(value) != len(options):
            raise _wrong(kind, value, path)
        return tuple(
            _value(option, item, f"{path}[{i}]") for i, (option, item) in enumerate(zip(options, value, strict=True))
        )
    option = options[0] if options else Any
    found = [_value(option, item, f"{path}[{index}]") for index, item in enumerate(value)]
    return tuple(found) if origin is tuple else found


def _mapping(kind: Any, value: Any, path: str) -> Any:
    if not isinstance(value, Mapping):
        raise _wrong(kind, value, path)
    keys, values = get_args(kind) or (str, Any)
    return {_value(keys, name, path): _value(values, item, _joined(path, str(name))) for name, item in value.items()}


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _wrong(kind: Any, value: Any, path: str) -> _Wrong:
    return _Wrong(path, f"is {_shown(value)}; it must be {_words(kind)}")


def _words(kind: Any) -> str:
    """What an annotation allows, as the end of a sentence."""
    origin, options = get_origin(kind) or kind, get_args(kind)
    if origin is Annotated:
        return next((note.words for note in options if isinstance(note, Allowed)), _words(options[0]))
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_words(option) for option in options))
    if origin is Literal:
        return _choices(options)
    if isinstance(origin, type) and issubclass(origin, Enum):
        return _choices([member.value for member in origin])
    if origin is tuple and options and options[-1] is not Ellipsis:
        return f"a list of {len(options)}: {', '.join(_words(option) for option in options)}"
    if origin in (list, tuple, Sequence):
        return "a list"
    names = {str: "text", bool: "true or false", int: "a whole number", float: "a finite number"}
    return "null" if origin in (None, NoneType) else names.get(origin, "an object")


def _choices(options: Sequence[Any]) -> str:
    return f"{', '.join(repr(option) for option in options[:-1])} or {options[-1]!r}"


def _shown(value: Any) -> str:
    if isinstance(value, dict | list) and value:
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return "a number without end"
    text = repr(value) if not isinstance(value, str) else repr(value[: _SHOWN + 1])
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
