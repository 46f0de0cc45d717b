"""Floors: numbers that a video must reach whatever a judge says, such as its likeness to the picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from alignvid.errors import InputError, JudgeError, pass_on_interrupt
from alignvid.media.videos import Frames


@dataclass(frozen=True)
class Floor:
    """A metric of the frames, and the least value that will do."""

    name: str
    measure: Callable[[Frames], float]
    least: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.least):
            raise InputError(f"The floor of {self.name!r} is {self.least!r}; give a finite number.")

    def of(self, frames: Frames) -> Reached:
        """What a video has. Raises: JudgeError if it cannot be measured, or that gives no number."""
        try:
            value = float(self.measure(frames))
        except Exception as error:
            pass_on_interrupt(error)
            raise JudgeError(f"The metric {self.name!r} failed: {type(error).__name__}: {error}") from error
        if math.isnan(value):
            raise JudgeError(f"The metric {self.name!r} gave no number.")
        return Reached(self.name, value, self.least)


@dataclass(frozen=True)
class Reached:
    """A floor, and the value of one video."""

    name: str
    value: float
    least: float

    @property
    def is_met(self) -> bool:
        """Whether the value will do."""
        return self.value >= self.least

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"name": self.name, "value": self.value, "least": self.least, "is_met": self.is_met}
