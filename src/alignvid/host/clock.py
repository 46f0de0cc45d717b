"""The step clock: which step is running, at which noise level. All of it on the host.

With a pipeline the clock reads its scheduler: `step_index`, and the list of timesteps, fetched once per schedule. Only
while the scheduler does not say its step, which is before the first one, the timestep of the forward is looked up
there. Nothing is counted, so skipped forwards, two transformers and restarting sections do not shift it. A bare
transformer has no schedule, nor has Echo: there the clock reads the timestep that the transformer is given (one
transfer per forward where it lies on a GPU). What timesteps mean is in noise.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from alignvid.host.noise import default_levels, first_step, levels_of, nearest, other_stages
from alignvid.schedule import StepWindow


class Moment(NamedTuple):
    """Where a forward lies in a run."""

    is_in_window: bool
    step_index: int | None
    """Index from the start of the loop; None if there is no schedule to count in."""
    noise_level: float
    """From 1 (pure noise) to 0."""


class StepClock:
    """Reads the moment from a pipeline's scheduler, or from the timestep if there is none."""

    def __init__(self, window: StepWindow, pipeline: Any = None) -> None:
        """A clock for one step window; `pipeline` is None for a bare transformer."""
        self.window = window
        self.pipeline = pipeline
        self._timesteps: torch.Tensor | None = None
        self._first = 0
        self._noise_levels: list[float] = []
        self._default_levels = default_levels(pipeline)
        self._active = window.active_steps(self._default_levels)
        self._step: int | None = None
        self.schedule_count = 0
        """How many schedules have begun: one per run, or per section where the pipeline restarts its schedule."""

    @property
    def is_past_window(self) -> bool:
        """Whether the step that was read last, or an earlier one, is the last of its schedule inside the window."""
        return self._step is not None and not any(self._active[self._step + 1 :])

    def read(self, noise_level: Callable[[], float]) -> Moment:
        """The moment of the forward that is about to run.

        `noise_level`: reads it from what the transformer is given; asked only where the scheduler does not tell.
        Raises: ClockError if neither the scheduler nor the timestep tells.
        """
        scheduler: Any = getattr(self.pipeline, "scheduler", None)
        if getattr(scheduler, "num_inference_steps", None) is None:  # a bare transformer, or no run was begun yet
            return self._unscheduled(noise_level())
        if scheduler.timesteps is not self._timesteps:
            self._begin_schedule(scheduler, noise_level)
        self._step = step_index = self._step_index(scheduler, noise_level)
        if step_index is None:
            return self._unscheduled(noise_level())
        return Moment(self._active[step_index], step_index, self._noise_levels[step_index])

    def _begin_schedule(self, scheduler: Any, noise_level: Callable[[], float]) -> None:
        """Fetch the schedule; the steps of this run are those from its first one on."""
        self._timesteps = scheduler.timesteps
        levels = levels_of(scheduler, self.pipeline)
        self._first = first_step(scheduler, levels, noise_level)
        self._noise_levels = levels[self._first :]
        before, after = other_stages(scheduler, len(self._noise_levels))
        active = self.window.active_steps([*before, *self._noise_levels, *after])
        self._active = active[len(before) : len(before) + len(self._noise_levels)]
        self.schedule_count += 1

    def _step_index(self, scheduler: Any, noise_level: Callable[[], float]) -> int | None:
        """Index into this run's steps; None if the scheduler has run out, so that this forward is not of its run."""
        if getattr(scheduler, "step_index", None) is None:  # before the first step, or a scheduler that does not say
            is_told = hasattr(scheduler, "step_index") and scheduler.begin_index is not None
            return 0 if is_told else nearest(self._noise_levels, noise_level())
        index = scheduler.step_index - self._first
        return index if 0 <= index < len(self._noise_levels) else None

    def _unscheduled(self, level: float) -> Moment:
        """Without a schedule the fraction of steps done is taken as 1 - noise level, exact for an unshifted flow; or,
        if the pipeline makes certain steps unless it is told others, that of the one whose noise level is nearest.
        """
        if self._default_levels:
            step = nearest(self._default_levels, level)
            if self._step is None or step <= self._step:
                self.schedule_count += 1
            self._step = step
            return Moment(self._active[step], step, level)
        position = level if self.window.unit == "noise" else min(1.0 - level, 1.0 - 1e-6)
        return Moment(self.window.contains(position), None, level)
