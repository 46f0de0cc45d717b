"""The step clock: which step is running, at which noise level, in which CFG branch. All of it on the host.

With a pipeline the clock reads its scheduler: `step_index`, and the list of timesteps, fetched once per schedule. Only
while the scheduler does not say its step, which is before the first one, the timestep of the forward is looked up
there. Nothing is counted, so skipped forwards, two transformers and restarting sections do not shift it. A bare
transformer has no schedule, nor has Echo: there the clock reads the timestep that the transformer is given (one
transfer per forward where it lies on a GPU). What timesteps mean is in noise.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch

from alignvid.host.noise import default_levels, first_step, levels_of, nearest, other_stages
from alignvid.models.family import Arguments
from alignvid.models.registry import Host
from alignvid.recipe import Branch
from alignvid.schedule import StepWindow

Pass = Literal["cond", "uncond", "batched", "unknown"]
"""Which pass of classifier-free guidance a forward is; "batched" holds several branches in one batch."""


BATCHED = "cond_uncond"
"""Name of the cache context of a batch that holds several branches."""
UNCONDITIONAL_FIRST = ("uncond", "cond")


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


class PassReader:
    """Tells the CFG branch of a forward: by the name that the pipeline announces, else by the guider of a modular one,
    else by its order within the step.

    Pipelines without announced names (HunyuanVideo I2V, FramePack) run the conditional pass first, the other one
    second; or both in one batch, if the family says so.
    """

    def __init__(self, pipeline: Any = None) -> None:
        """`pipeline` is None for a bare transformer."""
        self._pipeline = pipeline
        self.announced: str | None = None
        """Name of the cache context that the pipeline has entered, such as "cond"."""
        self._step: tuple[int, int | None] | None = None
        self._order = 0

    def read(self, schedule_count: int, step_index: int | None, host: Host, arguments: Arguments) -> Pass:
        """The branch of the forward that a transformer is about to run, with these arguments."""
        step = (schedule_count, step_index)
        self._order = self._order + 1 if step == self._step and step_index is not None else 0
        self._step = step
        name = self.announced or self._guided_pass(host.name)
        branches = host.family.branches(arguments)
        is_silent_batch = name is None and self._pipeline is not None and bool(branches)
        if name == BATCHED or is_silent_batch:
            is_told = callable(host.family.batch_order) and bool(branches)
            return "batched" if is_told or self._is_guided(samples_in(arguments)) else "cond"
        if name is not None:
            return pass_named(name)
        return "cond" if step_index is not None and self._order == 0 else "uncond" if self._order == 1 else "unknown"

    def _guided_pass(self, transformer: str) -> str | None:
        """What the guider of a transformer calls the pass that is next in this step; None without one. The second pass
        is not always the unconditional one: `SkipLayerGuidance` alone runs "pred_cond" and "pred_cond_skip".
        """
        guider = getattr(self._pipeline, transformer.replace("transformer", "guider"), None)
        if guider is None or guider.get_state()["step"] is None:  # no guider, or it has not been asked for a step
            return None
        passes = [getattr(batch, guider._identifier_key) for batch in guider.prepare_inputs({})]
        return passes[self._order] if self._order < len(passes) else None

    def _is_guided(self, samples: int) -> bool:
        """Whether a batch that may hold all branches does: as the pipeline says, else by its scale and even size."""
        has_scale = getattr(self._pipeline, "guidance_scale", math.inf) > 1.0
        return getattr(self._pipeline, "do_classifier_free_guidance", has_scale and samples % 2 == 0)


def pass_named(context: str) -> Pass:
    """Branch by a context's name: "pred_cond" -> cond; "uncond_stg" -> uncond; "cond_uncond" -> batched."""
    if context == BATCHED:
        return "batched"
    if "uncond" in context:
        return "uncond"
    return "cond" if "cond" in context else "unknown"


def samples_in(arguments: Arguments) -> int:
    """Samples in the batch of a forward: those of its hidden states, or of the first tensor or list if it has none."""
    tensors = (value for value in arguments.values() if isinstance(value, torch.Tensor | list))
    return len(arguments.get("hidden_states", next(tensors, ())))


def active_samples(
    branch: Branch, running: Pass, arguments: Arguments, batch_order: Sequence[str]
) -> bool | list[bool]:
    """Does the gain act in this pass? A list by sample where a batch holds several branches.

    An unknown pass is modulated, as the released code modulates every pass.

    Args:
        branch: the branch to modulate.
        running: the pass.
        arguments: of the forward.
        batch_order: branches in a batch; none means the unconditional half first.
    """
    if branch == "both" or running == "unknown":
        return True
    if running == "batched":
        parts = batch_order or UNCONDITIONAL_FIRST
        return [branch == part for part in parts for _ in range(samples_in(arguments) // len(parts))]
    return running == branch
