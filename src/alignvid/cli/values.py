"""What no value of an option may be, whatever it is for: empty, not finite, a home that is not here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

_MAY_BE_EMPTY = {"prompt", "negative_prompt"}
"""Names of options whose command says itself what an empty one means."""


class Given(click.ParamType):
    """A text, path or number that says something."""

    def __init__(self, inner: click.ParamType) -> None:
        """The type that reads the text."""
        self.inner, self.name = inner, inner.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check the text, then what it was read as; "~" in a path is the user's home."""
        if isinstance(value, str) and not value.strip() and (param is None or param.name not in _MAY_BE_EMPTY):
            self.fail("it is empty; give a value, or leave the option out.", param, ctx)
        found = self.inner.convert(value, param, ctx)
        if isinstance(found, float) and not math.isfinite(found):
            self.fail(f"{value!r} is no finite number.", param, ctx)
        if not isinstance(found, Path):
            return found
        from alignvid.files import user_path  # here, for the help is quick without it

        return user_path(found)


class GivenRange(click.FloatRange):
    """A finite number in a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As the range does, but an endless one is refused too."""
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value!r} is no finite number.", param, ctx)
        return found


def check_values(command: click.Command) -> None:
    """Let every option and argument below a command refuse what says nothing: here, so that none is forgotten."""
    for param in command.params:
        param.type = _checked(param.type)
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        check_values(below)


def _checked(kind: click.ParamType) -> click.ParamType:
    if isinstance(kind, click.FloatRange):
        return GivenRange(kind.min, kind.max, kind.min_open, kind.max_open, kind.clamp)
    return Given(kind) if kind in (click.STRING, click.FLOAT) or isinstance(kind, click.Path) else kind
