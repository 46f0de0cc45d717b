"""Where a forward lies in a run: the moment, and the schedule that it is counted in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from alignvid.host.given import Given
from alignvid.host.noise import nearest

Source = Literal["own", "other", "stray"]
"""Whose run a forward belongs to; see clock.py."""


class Moment(NamedTuple):
    """Where a forward lies in a run."""

    is_in_window: bool
    step_index: int | None
    """Index from the start of the loop; None if there is no schedule to count in."""
    noise_level: float
    """From 1 (pure noise) to 0."""
    run: int = 0
    """Number of the run, or of its section where a pipeline restarts its schedule; below 1 if no schedule is known."""
    step_count: int | None = None
    """How many steps the run has; None if no schedule is known."""
    source: Source = "own"


@dataclass
class Run:
    """One pass through a schedule, as one thread sees it."""

    timesteps: torch.Tensor | None
    """The very tensor, kept so that no other one can lie at its address."""
    levels: list[float]
    """Noise levels of the whole schedule."""
    reads_logarithm: bool = False
    first: int = 0
    """Where in the schedule this run begins."""
    active: Sequence[bool] = ()
    """Whether each step from `first` on is in the window; empty until the run has begun."""
    number: int = 0
    step: int | None = None
    """The step of this run that was read last."""

    def index_of(self, given: Given, said: int | None, slack: float = 0.0) -> int | None:
        """Index into the whole schedule by noise level, of equal ones the one that is said; None if it is in none."""
        level = given.logarithm_level if self.reads_logarithm else given.level
        tolerance = given.tolerance + slack
        if said is not None and 0 <= said < len(self.levels) and abs(self.levels[said] - level) <= tolerance:
            return said
        index = nearest(self.levels, level) if self.levels else 0
        return index if self.levels and abs(self.levels[index] - level) <= tolerance else None

    def moment(self, step: int, source: Source) -> Moment:
        """The moment of a forward at a step of this run."""
        level = self.levels[self.first + step]
        return Moment(self.active[step], step, level, self.number, len(self.active), source)
