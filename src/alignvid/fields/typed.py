"""Plain data as dataclasses, each field checked against its annotation.

A dataclass or a TypedDict is the schema. What it says of a field (a type, a union, a `Literal`, an `Annotated` range)
is what a file may hold there; every message says the field, the value and what is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache, partial
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
        return _reader(kind)(values, "")
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

    def __init__(self, path: str, verb: Callable[[], str]) -> None:
        super().__init__(path)
        self.path, self.verb = path, verb  # put into words where it is shown: a union tries its options one by one

    def sentence(self, what: str) -> str:
        return f"{f'{what}: the field {self.path!r}' if self.path else what} {self.verb()}."


Reader = Callable[[Any, str], Any]
"""Gives a value, found at a path, as its annotation wants it. Raises: _Wrong. Made once for each field of a class."""


class _Field(NamedTuple):
    read: Reader
    is_required: bool


@cache
def _fields_of(kind: Any) -> dict[str, _Field]:
    """Every field that a file may hold, with what reads it."""
    hints = get_type_hints(kind, include_extras=True)
    if is_typeddict(kind):
        return {
            name: _Field(
                _reader(get_args(hint)[0] if get_origin(hint) is NotRequired else hint), _is_required(kind, hint)
            )
            for name, hint in hints.items()
        }
    return {
        item.name: _Field(_reader(hints[item.name]), item.default is MISSING and item.default_factory is MISSING)
        for item in fields(kind)
        if item.init
    }


def _is_required(kind: Any, hint: Any) -> bool:
    return kind.__total__ and get_origin(hint) is not NotRequired


def _reader(kind: Any) -> Reader:
    """What reads values of an annotation."""
    origin = get_origin(kind) or kind
    if kind is Any:
        return lambda value, path: value
    if origin is Annotated:
        return _annotated(kind)
    if origin in (Union, UnionType):
        return _one_of(kind)
    if _is_record(origin):
        return partial(_record, origin)  # its fields are looked at when it is read: a class may hold itself
    if origin is Literal:
        return _where(kind, partial(_is_option, get_args(kind)))
    if isinstance(origin, type) and issubclass(origin, Enum):
        members = [member.value for member in origin]
        return _where(kind, lambda value: value in members, origin)
    if origin in (list, tuple, Sequence):
        return _sequence(kind, origin)
    if origin in (dict, Mapping):
        return _mapping(kind)
    if origin is str:
        return _where(kind, lambda value: isinstance(value, str))
    return _where(kind, partial(_is_scalar, origin), float if origin is float else None)


def _where(kind: Any, holds: Callable[[Any], bool], made: Callable[[Any], Any] | None = None) -> Reader:
    """Values for which something holds, made into something else if that is given."""

    def read_value(value: Any, path: str) -> Any:
        if not holds(value):
            raise _wrong(kind, value, path)
        return value if made is None else made(value)

    return read_value


def _is_option(options: Sequence[Any], value: Any) -> bool:
    return any(value == option and type(value) is type(option) for option in options)


def _is_scalar(kind: Any, value: Any) -> bool:
    if kind in (None, NoneType):
        return value is None
    if isinstance(value, bool) or kind is bool:
        return kind is bool and isinstance(value, bool)
    if kind is float:
        return is_finite_number(value)
    return isinstance(value, kind) and (kind is not int or value in _WHOLE_NUMBERS)


def _annotated(kind: Any) -> Reader:
    base, *notes = get_args(kind)
    if OPEN in notes:
        return partial(_record, base, is_open=True)
    checks = [note.holds for note in notes if isinstance(note, Allowed)]
    read_base = _reader(base)

    def read_value(value: Any, path: str) -> Any:
        try:
            found = read_base(value, path)
        except _Wrong as wrong:
            raise (_wrong(kind, value, path) if wrong.path == path else wrong) from None
        for holds in checks:
            if not holds(found):
                raise _wrong(kind, value, path)
        return found

    return read_value


def _one_of(kind: Any) -> Reader:
    """The first option that fits; else what is wrong within the option that the value resembles."""
    options = [(_reader(option), _is_record(option)) for option in get_args(kind)]
    may_be_none = NoneType in get_args(kind)

    def read_value(value: Any, path: str) -> Any:
        if value is None and may_be_none:
            return None
        within_option = None
        for read_option, is_record in options:
            try:
                return read_option(value, path)
            except _Wrong as wrong:
                if wrong.path != path or (is_record and isinstance(value, Mapping)):
                    within_option = wrong
        raise within_option or _wrong(kind, value, path)

    return read_value


def _is_record(kind: Any) -> bool:
    return is_dataclass(kind) or is_typeddict(kind)


def _record(kind: Any, value: Any, path: str, *, is_open: bool = False) -> Any:
    known = _fields_of(kind)
    if not isinstance(value, Mapping):
        sentence = f"is {_shown(value)}; it must be an object with the fields {', '.join(known)}"
        raise _Wrong(path, lambda: sentence)
    unknown = [name for name in value if name not in known]
    if unknown and not is_open:
        raise _Wrong(path, lambda: f"has no field {unknown[0]!r}; its fields are {', '.join(known)}")
    if missing := [name for name, item in known.items() if item.is_required and name not in value]:
        names = ", ".join(map(repr, missing))
        raise _Wrong(path, lambda: f"lacks the field {names}; its fields are {', '.join(known)}")
    found = {name: item.read(value[name], _joined(path, name)) for name, item in known.items() if name in value}
    return kind(**found, **{name: value[name] for name in unknown})


def _sequence(kind: Any, origin: Any) -> Reader:
    options = get_args(kind)
    if origin is tuple and options and options[-1] is not Ellipsis:
        return _of_length(kind, [_reader(option) for option in options])
    read_item = _reader(options[0] if options else Any)

    def read_value(value: Any, path: str) -> Any:
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            raise _wrong(kind, value, path)
        found = [read_item(item, f"{path}[{index}]") for index, item in enumerate(value)]
        return tuple(found) if origin is tuple else found

    return read_value


def _of_length(kind: Any, items: list[Reader]) -> Reader:
    def read_value(value: Any, path: str) -> Any:
        if isinstance(value, str | bytes) or not isinstance(value, Sequence) or len(value) != len(items):
            raise _wrong(kind, value, path)
        pairs = zip(items, value, strict=True)
        return tuple(read_item(item, f"{path}[{index}]") for index, (read_item, item) in enumerate(pairs))

    return read_value


def _mapping(kind: Any) -> Reader:
    read_key, read_item = map(_reader, get_args(kind) or (str, Any))

    def read_value(value: Any, path: str) -> Any:
        if not isinstance(value, Mapping):
            raise _wrong(kind, value, path)
        return {read_key(name, path): read_item(item, _joined(path, str(name))) for name, item in value.items()}

    return read_value


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _wrong(kind: Any, value: Any, path: str) -> _Wrong:
    return _Wrong(path, lambda: f"is {_shown(value)}; it must be {_words(kind)}")


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
