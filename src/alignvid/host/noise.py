"""Noise levels, from 1 (pure noise) to 0: of the steps of a schedule, and of what a transformer is given.

Timesteps run up or down, to 1 or 1000, and mean time, sigma or an angle; a schedule may hold one that is not run, or be
one stage of a run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch

from alignvid.errors import ClockError

_RIGHT_ANGLE = 1.5709  # π/2 as diffusers writes it, rounded up


def other_stages(scheduler: Any, steps: int) -> tuple[list[float], list[float]]:
    """Noise levels before and after the running stage, where a run is cut into stages that are schedules of their own,
    as in Helios' pyramid of sizes. How many steps the others have is not known yet: as many as this one is assumed, so
    that a window in fractions of the steps has each stage count alike.
    """
    stages = [(float(stage[0]), float(stage[-1])) for stage in getattr(scheduler, "timesteps_per_stage", {}).values()]
    first = float(scheduler.timesteps[0])
    running = sum(first <= last for _, last in stages)  # the stages that end before this one begins
    levels = [noise_levels(torch.linspace(*stage, steps).tolist(), train_timesteps(scheduler)) for stage in stages]
    return list(chain.from_iterable(levels[:running])), list(chain.from_iterable(levels[running + 1 :]))


def said_step(scheduler: Any) -> int | None:
    """Index into all timesteps of the step that a scheduler says it is at; None if it does not say.

    Before its first step it says where it will begin, if the pipeline has set that: video-to-video skips the noisiest
    steps.
    """
    if not hasattr(scheduler, "step_index"):
        return None
    return scheduler.begin_index if scheduler.step_index is None else scheduler.step_index


def first_step(scheduler: Any, running: int) -> int:
    """Where in the schedule this run begins, as seen from the first of its forwards, which is at index `running`."""
    begin = getattr(scheduler, "begin_index", None)
    if begin is not None:
        return begin
    return 0 if getattr(scheduler, "step_index", None) is not None else running


def is_logarithm(scheduler: Any) -> bool:
    """Whether its timesteps are ln(σ)/4, as those of Cosmos 1, which the transformer is given as they are."""
    return float(torch.as_tensor(scheduler.timesteps).min()) < 0.0


def nearest(levels: Sequence[float], level: float) -> int:
    """Index of the step whose noise level is nearest."""
    return min(range(len(levels)), key=lambda step: abs(levels[step] - level))


def noise_levels(timesteps: Sequence[float], train_timesteps: float) -> list[float]:
    """Noise level, 1 to 0, of each step of a schedule whose timesteps run 1000..0, 1..0 or, ascending, 0..1 or
    0..1000; or from π/2 to 0, the angles of TrigFlow (Sana-Sprint), whose noise weighs sin t and picture cos t. Those
    of Cosmos give sigma, beyond the range of a flow: as ln(σ)/4, or as 1000σ.
    """
    if min(timesteps, default=0.0) < 0.0:
        return [logarithm_level(timestep) for timestep in timesteps]
    if max(timesteps, default=0.0) > train_timesteps:
        return [_share_of_noise(timestep / train_timesteps) for timestep in timesteps]
    if 1.0 < max(timesteps, default=0.0) <= _RIGHT_ANGLE:
        return [math.sin(angle) / (math.sin(angle) + math.cos(angle)) for angle in timesteps]
    scale = 1.0 if all(0.0 <= timestep <= 1.0 for timestep in timesteps) else float(train_timesteps)
    levels = [min(max(timestep / scale, 0.0), 1.0) for timestep in timesteps]
    is_ascending = len(levels) > 1 and levels[0] < levels[-1]
    return [1.0 - level for level in levels] if is_ascending else levels


def _share_of_noise(sigma: float) -> float:
    return sigma / (1.0 + sigma)


def logarithm_level(timestep: float) -> float:
    """Noise level of a timestep that is ln(σ)/4."""
    return _share_of_noise(math.exp(4.0 * timestep))


def noisiest(timestep: Any, *, is_ascending: bool) -> float:
    """The timestep of the noisiest token, for clean reference tokens have a timestep without noise.

    Args:
        timestep: of any shape (per batch, per token, per frame).
        is_ascending: whether it is 0 at pure noise.
    Raises: ClockError if no timestep was given.
    """
    if timestep is None:
        raise ClockError("The transformer was called without a timestep; pass timestep=…, or attach to the pipeline.")
    timesteps = torch.as_tensor(timestep)
    return float(timesteps.min() if is_ascending else timesteps.max())


def level_at(timestep: float, timestep_scale: float, *, is_ascending: bool) -> float:
    """Noise level of a timestep.

    Args:
        timestep: as the transformer is given it.
        timestep_scale: its value at pure noise; or, if it is ascending, without noise.
        is_ascending: whether it is 0 at pure noise.
    """
    level = timestep / timestep_scale
    return min(max(1.0 - level if is_ascending else level, 0.0), 1.0)


def train_timesteps(scheduler: Any) -> float:
    """A scheduler's timestep at pure noise, where its timesteps are no fractions."""
    return scheduler.config.get("num_train_timesteps", 1000)
