"""When a gain acts: the step window; and the schedule of a run, where its caller says it.

A `StepWindow` chooses denoising steps, in fractions of the steps or in noise levels. Both are plain values: they know
nothing of a model until they are asked about one.

Source: Guidance Scheduling of arXiv 2512.01334 (step level).
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from alignvid.errors import ScheduleError
from alignvid.fields import is_finite_number, read

_TOLERANCE = 1e-9  # 0.3 * 10 is 3.0000000000000004 steps: a rounding error must not add a step


@dataclass(frozen=True)
class StepWindow:
    """A choice of denoising steps.

    unit "fraction": step i of n is in the window if start <= i/n < stop.
    unit "noise": it is in the window if start < noise level <= stop; the noise level runs from 1 (pure noise) to 0.
    At least one step of a run is active, the nearest one, unless the window is `StepWindow.none()`.

    Examples:
        >>> print(StepWindow.of((0.0, 0.3)))
        0% to 30% of the steps
        >>> print(StepWindow.of("noise>0.9"))
        noise level > 0.9
        >>> StepWindow.of("0.0-0.3") == StepWindow.fraction(0.0, 0.3)
        True
    """

    unit: Literal["fraction", "noise", "none"]
    start: float = 0.0
    stop: float = 1.0
    precision: Literal["exact", "bfloat16"] = "exact"
    """In bfloat16, 1000 times the noise level is rounded before it is compared, as FramePack's released gate does."""

    def __post_init__(self) -> None:
        if self.precision not in ("exact", "bfloat16") or (self.precision != "exact" and self.unit != "noise"):
            raise ScheduleError(
                f"precision {self.precision!r} of a step window in unit {self.unit!r} is not possible; choose 'exact', "
                "or 'bfloat16' with unit 'noise'."
            )
        if self.unit not in ("fraction", "noise", "none"):
            raise ScheduleError(
                f"Unit {self.unit!r} of a step window is unknown; choose 'fraction', 'noise' or 'none'."
            )
        if not all(is_finite_number(end) and 0.0 <= end <= 1.0 for end in (self.start, self.stop)):
            raise ScheduleError(f"A step window runs within 0.0 and 1.0, but ({self.start}, {self.stop}) was given.")
        if self.unit != "none" and self.start >= self.stop:
            raise ScheduleError(
                f"The step window ({self.start}, {self.stop}) contains no step: its start must lie before its stop. "
                "To act at no step on purpose use StepWindow.none()."
            )

    @classmethod
    def fraction(cls, start: float, stop: float) -> StepWindow:
        """Steps i of n with start <= i/n < stop."""
        return cls("fraction", start, stop)

    @classmethod
    def noise(cls, low: float, high: float) -> StepWindow:
        """Steps with low < noise level <= high. The released "mid" gate, 600 < t <= 900, is `noise(0.6, 0.9)`."""
        return cls("noise", low, high)

    @classmethod
    def noise_above(cls, low: float) -> StepWindow:
        """Steps with noise level > low. The released "early" gate, t > 900, is `noise_above(0.9)`."""
        return cls("noise", low, 1.0)

    @classmethod
    def all(cls) -> StepWindow:
        """Every step."""
        return cls("fraction", 0.0, 1.0)

    @classmethod
    def none(cls) -> StepWindow:
        """No step, on purpose."""
        return cls("none")

    @classmethod
    def of(cls, value: StepWindow | Sequence[float] | str) -> StepWindow:
        """Read what users write: (0.0, 0.3) in fractions of steps, "0.0-0.3", "noise>0.9", "all", "none" or a
        StepWindow.

        Raises: ScheduleError if the value is none of these.
        """
        if isinstance(value, StepWindow):
            return value
        if isinstance(value, str):
            return _window_from_text(value)
        if isinstance(value, Sequence) and len(value) == 2:
            return cls.fraction(value[0], value[1])
        raise ScheduleError(f"{value!r} is not a step window; write (0.0, 0.3) in fractions of steps or 'noise>0.9'.")

    def active_steps(self, noise_levels: Sequence[float]) -> tuple[bool, ...]:
        """Which steps of a run are in the window, given the noise level of each.

        If none is, the nearest step is, so that a 4-step model is not silently left alone.
        """
        count = len(noise_levels)
        if self.unit == "none" or not count:
            return (False,) * count
        positions = [step / count for step in range(count)] if self.unit == "fraction" else noise_levels
        active = [self.contains(position) for position in positions]
        if not any(active):
            active[self._nearest_step(positions)] = True
        return tuple(active)

    def contains(self, position: float) -> bool:
        """Is a fraction of steps, or a noise level (as the unit says), inside the window?"""
        if self.unit == "fraction":
            return self.start - _TOLERANCE <= position < self.stop - _TOLERANCE
        if self.precision == "bfloat16":
            position = _bfloat16(1000.0 * position) / 1000.0
        return self.unit == "noise" and self.start + _TOLERANCE < position <= self.stop + _TOLERANCE

    @property
    def is_all_or_none(self) -> bool:
        """Whether it is the same at every step."""
        return self.unit == "none" or (self.unit == "fraction" and self.start == 0.0 and self.stop == 1.0)

    def _nearest_step(self, positions: Sequence[float]) -> int:
        """A window between two steps belongs to the step that is running then; one beside all steps to the nearest."""
        if self.unit == "fraction":
            return math.floor(self.start * len(positions) + _TOLERANCE)
        middle = (self.start + self.stop) / 2
        return min(range(len(positions)), key=lambda step: abs(positions[step] - middle))

    def to_dict(self) -> dict[str, Any]:
        """A dict that `from_dict` reads back."""
        if self.unit == "none":
            return {"unit": "none"}
        rounding = {} if self.precision == "exact" else {"precision": self.precision}
        return {"unit": self.unit, "start": self.start, "stop": self.stop} | rounding

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> StepWindow:
        """Read a dict written by `to_dict`. Raises: ScheduleError naming the field that is wrong."""
        return read(cls, fields, what="A step window", error=ScheduleError)

    def __str__(self) -> str:
        if self.unit == "none":
            return "no step"
        if self.unit == "noise":
            high = "" if self.stop == 1.0 else f" and <= {self.stop:g}"
            rounding = "" if self.precision == "exact" else ", timesteps rounded to bfloat16"
            return f"noise level > {self.start:g}{high}{rounding}"
        return f"{self.start:.0%} to {self.stop:.0%} of the steps"


@dataclass(frozen=True)
class FlowSchedule:
    """The noise levels of a flow-matching run: `steps` even steps from 1 down, each shifted towards noise.

    The shift s of a level x gives s·x / (1 + (s - 1)·x): arXiv 2403.03206, section 5.3.2, there with s² = m/n, and
    `shift` of the schedulers of diffusers and of Wan.

    Examples:
        >>> FlowSchedule(steps=4).noise_levels
        [1.0, 0.75, 0.5, 0.25]
        >>> FlowSchedule(steps=4, shift=3.0).noise_levels[1:]
        [0.9, 0.75, 0.5]
    """

    steps: int
    shift: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise ScheduleError(f"steps must be a whole number from 1 on, but {self.steps!r} was given.")
        if not (is_finite_number(self.shift) and self.shift > 0.0):
            raise ScheduleError(f"shift must be a number above 0, but {self.shift!r} was given; 1.0 is no shift.")

    @property
    def noise_levels(self) -> list[float]:
        """Of each step, from 1 down; the end of the run, at 0, is no step."""
        even = [1.0 - step / self.steps for step in range(self.steps)]
        return [self.shift * level / (1.0 + (self.shift - 1.0) * level) for level in even]


def _bfloat16(value: float) -> float:
    """Rounded to the nearest number that bfloat16 holds, to the even one of two."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    (rounded,) = struct.unpack("<f", struct.pack("<I", (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000))
    return rounded


def _window_from_text(text: str) -> StepWindow:
    if text in ("all", "none"):
        return StepWindow.all() if text == "all" else StepWindow.none()
    number = r"((?:\d+(?:\.\d+)?|\.\d+)(?:e-?\d+)?)"  # one way only to read a row of digits, however long
    if above := re.fullmatch(rf"noise\s*>\s*{number}", text):
        return StepWindow.noise_above(float(above[1]))
    if noise := re.fullmatch(rf"noise\s*:?\s*{number}\s*[-,]\s*{number}", text):
        return StepWindow.noise(float(noise[1]), float(noise[2]))
    if pair := re.fullmatch(rf"{number}\s*[-,:]\s*{number}", text):
        return StepWindow.fraction(float(pair[1]), float(pair[2]))
    raise ScheduleError(
        f"{text!r} is not a step window; write '0.0-0.3' (fractions of the steps), 'noise>0.9', 'noise:0.6-0.9', "
        "'all' or 'none'."
    )
