"""Which kinds of judge exist: the entry points of the group "alignvid.judges", each a module with a `KIND`."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import entry_points

from alignvid.bench.judges.base import Judge, JudgeKind, JudgeOptions
from alignvid.errors import InputError
from alignvid.plugins import load_plugin

ENTRY_POINT_GROUP = "alignvid.judges"


def judge_names() -> list[str]:
    """The names of all kinds, sorted; none is loaded."""
    return sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)})


def open_judge(name: str, options: JudgeOptions) -> Judge:
    """The judge of this kind, with these options.

    Raises: InputError for an unknown kind or protocol, or an option that the kind does not take.
    """
    kind = judge_kind(name)
    if wrong := sorted(options.given() - kind.options - {"protocol"}):
        flag = wrong[0].removesuffix("_s").replace("_", "-")
        takes = ", ".join(sorted(kind.options)) or "none"
        raise InputError(f"The judge {name!r} takes no --{flag}; leave it out (its options: {takes}).")
    _check_texts(options)
    protocol = kind.protocols[0] if options.protocol is None else options.protocol
    if protocol not in kind.protocols:
        raise InputError(f"The judge {name!r} knows no protocol {protocol!r}; choose from {', '.join(kind.protocols)}.")
    return kind.open(replace(options, protocol=protocol))


def _check_texts(options: JudgeOptions) -> None:
    """Refuse what no record can hold: bytes of the command line that are no UTF-8 come as halves of characters."""
    for name in sorted(options.given()):
        value = getattr(options, name)
        if isinstance(value, str) and not value.isascii() and value.encode("utf-8", "replace").decode() != value:
            raise InputError(f"--{name.replace('_', '-')} {value!r} is no text in UTF-8; type it again.")


def judge_kind(name: str) -> JudgeKind:
    """The kind of this name. Raises: InputError if there is none, or its package is broken."""
    points = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if name not in points:
        raise InputError(f"There is no judge {name!r}; choose from {', '.join(sorted(points))}.")
    return load_plugin(points[name], "KIND", "judge", InputError)
