"""The step clock: which step is running, at which noise level.

A forward's step is found from the timestep that it is given (given.py): it is looked up in the schedule of the attached
pipeline, and checked against the step that its scheduler says. Nothing is counted, so skipped forwards, two
transformers and restarting sections do not shift it, and a forward that is run in between (in a callback; in
another pipeline that shares the transformer) is not taken for one of the run:

own    the forward is the step that the attached pipeline's scheduler is at; or there is no pipeline to ask.
other  its timestep is a view of a whole schedule, which is another one: a pipeline that shares the transformer.
stray  neither; or of the schedule, but of another step than the running one.

The fraction of steps done is known in the first two, and in the third where the timestep stands in the schedule; else
a window in fractions does not act, and a warning says so. A bare transformer is acted on by the schedule that its
caller gave, or that its timestep is a view of; without one, 1 - noise level is taken, with a warning. What timesteps
mean is in noise.py. What was read is kept by thread, because two may run pipelines that share a transformer.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Any

from alignvid.errors import AttachmentError
from alignvid.host.contract import Contract
from alignvid.host.given import Given, given_levels
from alignvid.host.moment import Moment, Run
from alignvid.host.noise import first_step, is_logarithm, nearest, other_stages, said_step
from alignvid.host.registry import runner_of
from alignvid.host.transformers import Host
from alignvid.models.family import Arguments
from alignvid.schedule import StepWindow

_ROUNDED = 1e-3  # of a noise level: other code starts at 999 of 1000 where the formula starts at 1000


class _Thread(threading.local):
    """What one thread has read."""

    def __init__(self) -> None:
        self.own: Run | None = None
        self.other: Run | None = None
        self.given: Given | None = None
        self.level_without_schedule = -1.0
        self.run_without_schedule = 0

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return _Thread, ()  # a copy of an attachment has read nothing yet


class StepClock:
    """Finds the moment of a forward from its timestep and the pipeline's scheduler."""

    def __init__(
        self,
        window: StepWindow,
        pipeline: Any = None,
        levels: Sequence[float] = (),
        contract: Contract | None = None,
    ) -> None:
        """A clock for one step window.

        Args:
            window: the steps to know.
            pipeline: what runs the model; None for a bare transformer.
            levels: noise level of each step, where the caller of a bare transformer gives them.
            contract: hears where the step is not known; one that is not strict if None.
        """
        self.window = window
        self._contract = contract or Contract()
        self.pipeline = pipeline
        self._levels = list(levels)
        self._runner = runner_of(pipeline)
        self._default_levels = self._runner.default_levels(pipeline)
        self._thread = _Thread()
        self._run_numbers, self._runs_without_schedule = itertools.count(1), itertools.count(1)
        self.schedule_count = 0
        """How many schedules have begun: one per run, or per section where the pipeline restarts its schedule."""

    @property
    def is_past_window(self) -> bool:
        """Whether the step that was read last, or an earlier one, is the last of its schedule inside the window."""
        run = self._thread.own
        return run is not None and run.step is not None and not any(run.active[run.step + 1 :])

    def forget(self) -> None:
        """Keep nothing of the runs that were read, in any thread."""
        self._thread = _Thread()

    def read(self, host: Host, arguments: Arguments) -> Moment:
        """The moment of the forward that a transformer is about to run with these arguments.

        Raises: ClockError if the timestep is needed and was not given; AttachmentError if it is not in the schedule
        that the caller gave.
        """
        given = self._thread.given = Given(host, arguments).or_same(self._thread.given)
        if self._levels or self._default_levels:
            return self._on_levels(given, host)
        scheduler = self._runner.scheduler(self.pipeline)
        moment = None
        if getattr(scheduler, "timesteps", None) is not None:
            moment = self._on_scheduler(scheduler, given, host)
        return moment or self._on_view(given) or self._without_schedule(given)

    def _on_scheduler(self, scheduler: Any, given: Given, host: Host) -> Moment | None:
        """In the schedule of the attached pipeline; None if the timestep does not stand there."""
        run = self._thread.own
        if run is None or run.timesteps is not scheduler.timesteps:
            read = self._runner.levels
            timesteps = scheduler.timesteps
            levels = given_levels(timesteps, host) if read is None else read(self.pipeline, scheduler)
            run = self._thread.own = Run(scheduler.timesteps, levels, is_logarithm(scheduler))
        said = said_step(scheduler)
        index = given.offset_in(scheduler.timesteps)
        if index is None and given.whole is None:  # a view of other numbers is not looked for among these
            index = run.index_of(given, said)
        if index is None or index >= len(run.levels):
            return None
        is_again = said is None and index == run.first and run.step == len(run.active) - 1 > 0
        if not run.active or is_again:  # again: the schedule was run to its end, and is begun anew as it is
            run.step, first = None, first_step(scheduler, index)
            self._begin(run, first, other_stages(scheduler, len(run.levels) - first))
        step = index - run.first
        if not 0 <= step < len(run.active):
            return None
        is_due = step >= (run.step or 0) if said is None else index == said
        if is_due:
            run.step = step
        return run.moment(step, "own" if is_due else "stray")

    def _on_view(self, given: Given) -> Moment | None:
        """In the schedule that the timestep is a view of; None if it is a view of none."""
        if given.whole is None:
            return None
        run, offset = self._thread.other, given.timestep.storage_offset()
        if run is None or run.timesteps is None or given.offset_in(run.timesteps) is None:
            if (levels := given.schedule()) is None:
                return None
            run = self._thread.other = Run(given.whole, levels)
        if offset >= len(run.levels):
            return None
        is_again = offset == run.first and bool(run.step)
        if not run.active or offset < run.first or is_again:
            run.step = None
            # Of a pipeline, the steps before are left out (video-to-video); a bare transformer may be called at any.
            self._begin(run, 0 if self.pipeline is None else offset)
        step = offset - run.first
        is_due = step >= (run.step or 0)
        if is_due:
            run.step = step
        return run.moment(step, "stray" if not is_due else "own" if self.pipeline is None else "other")

    def _on_levels(self, given: Given, host: Host) -> Moment:
        """In the schedule that the caller gave; or in the steps that a modular pipeline takes if it is given none."""
        run = self._thread.own
        if self._default_levels:
            index = nearest(self._default_levels, given.level)
        else:
            earlier = Run(None, self._levels) if run is None else run
            index = self._given_index(earlier, given, host)
        is_later_pass = bool(self._levels) and run is not None and run.step == index
        if run is None or run.step is None or index < run.step or (index == run.step and not is_later_pass):
            run = self._thread.own = Run(None, self._levels or self._default_levels)
            self._begin(run, 0)
        run.step = index
        return run.moment(index, "own")

    def _given_index(self, run: Run, given: Given, host: Host) -> int:
        index = run.index_of(given, run.step, slack=_ROUNDED)
        if index is None:
            levels = ", ".join(f"{level:.4g}" for level in self._levels[:4])
            raise AttachmentError(
                f"{type(host.transformer).__name__} was given a timestep at noise level {given.level:.4g}, which is no "
                f"step of the schedule that alignvid.attach was given ({len(self._levels)} steps: {levels} …). Give as "
                "`schedule` the timesteps that the loop runs, or a FlowSchedule of its steps and shift."
            )
        return index

    def _without_schedule(self, given: Given) -> Moment:
        """By the noise level alone. Of a bare transformer, the fraction of steps done is taken as 1 - noise level,
        exact for an unshifted flow; of a pipeline it is not known.
        """
        thread, level = self._thread, given.level
        if level > thread.level_without_schedule:
            thread.run_without_schedule = -next(self._runs_without_schedule)
        thread.level_without_schedule = level
        run, window = thread.run_without_schedule, self.window
        if window.unit == "noise" or window.is_all_or_none:
            is_in_window = window.contains(level if window.unit == "noise" else 0.0)
        elif self.pipeline is None:
            is_in_window = window.contains(min(1.0 - level, 1.0 - 1e-6))
            self._warn_of_unshifted(run)
        else:
            is_in_window = False
            self._warn_of_unknown(level, run)
        return Moment(is_in_window, None, level, run, None, "own" if self.pipeline is None else "stray")

    def _begin(self, run: Run, first: int, stages: tuple[list[float], list[float]] = ([], [])) -> None:
        """The steps of this run are those from its first one on, between stages that are schedules of their own."""
        self.schedule_count = number = next(self._run_numbers)  # at once, for another thread may begin one, too
        before, after = stages
        levels = run.levels[first:]
        active = self.window.active_steps([*before, *levels, *after])
        run.first, run.number = first, number
        run.active = active[len(before) : len(before) + len(levels)]

    def _warn_of_unshifted(self, run: int) -> None:
        """Once a run."""
        self._contract.warn(
            "assumed fraction",
            f"The window {self.window} needs to know which step is running. No schedule was given, so that the "
            "fraction of steps done is taken as 1 - noise level, which is right for a flow without shift alone. "
            "Give alignvid.attach the schedule: its timesteps, or schedule=FlowSchedule(steps=40, shift=3.0).",
            once_in=(str(self.window), run),
        )

    def _warn_of_unknown(self, level: float, run: int) -> None:
        """Once a run."""
        self._contract.warn(
            "unknown fraction",
            f"A forward at noise level {level:.4g} is none of the run of the {type(self.pipeline).__name__} that "
            f"is attached to, so that it is not known whether it lies within {self.window}: it runs without a "
            "gain. Attach to the pipeline that runs it, choose a window of noise levels, or attach to "
            "the transformer alone, with the schedule.",
            once_in=(str(self.window), run),
        )
