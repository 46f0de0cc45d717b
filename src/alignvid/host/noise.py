"""Noise levels, from 1 (pure noise) to 0: of the steps of a schedule, and of what a transformer is told.

Timesteps run up or down, to 1 or 1000, and mean time, sigma or an angle; a schedule may hold one that is not run, or be
one stage of a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch

from alignvid.errors import ClockError
from alignvid.models.family import Arguments, Family

_RUN_ALL_BUT_LAST = ("LTXI2VLongMultiPromptPipeline", "SanaSprintPipeline", "SanaSprintImg2ImgPipeline")
"""Pipelines that leave out the last timestep, whatever it is."""
_RIGHT_ANGLE = 1.5709  # π/2 as diffusers writes it, rounded up


def levels_of(scheduler: Any, pipeline: Any) -> list[float]:
    """Noise level of each step of a schedule. Where there are as many timesteps as sigmas, the last one is the end, at
    which nothing is run.
    """
    timesteps = torch.as_tensor(scheduler.timesteps).float().tolist()
    is_end = len(timesteps) == len(getattr(scheduler, "sigmas", ())) or type(pipeline).__name__ in _RUN_ALL_BUT_LAST
    return noise_levels(timesteps[:-1] if is_end else timesteps, _train_timesteps(scheduler))


def default_levels(pipeline: Any) -> list[float]:
    """Noise levels that a modular pipeline takes for its steps if it is told none; as Echo, which has no scheduler."""
    inputs = getattr(getattr(pipeline, "blocks", None), "inputs", ())
    sigmas = next((parameter.default for parameter in inputs if parameter.name == "sigmas"), None)
    return [float(sigma) for sigma in sigmas or () if sigma > 0.0]


def other_stages(scheduler: Any, steps: int) -> tuple[list[float], list[float]]:
    """Noise levels before and after the running stage, where a run is cut into stages that are schedules of their own,
    as in Helios' pyramid of sizes. How many steps the others have is not known yet: as many as this one is assumed, so
    that a window in fractions of the steps has each stage count alike.
    """
    stages = [(float(stage[0]), float(stage[-1])) for stage in getattr(scheduler, "timesteps_per_stage", {}).values()]
    first = float(scheduler.timesteps[0])
    running = sum(first <= last for _, last in stages)  # the stages that end before this one begins
    levels = [noise_levels(torch.linspace(*stage, steps).tolist(), _train_timesteps(scheduler)) for stage in stages]
    return list(chain.from_iterable(levels[:running])), list(chain.from_iterable(levels[running + 1 :]))


def first_step(scheduler: Any, levels: Sequence[float], noise_level: Callable[[], float]) -> int:
    """Where in the schedule this run begins: video-to-video skips the noisiest steps.

    Some of its pipelines say so by `begin_index`, others only by the timestep of their first forward.
    """
    begin = getattr(scheduler, "begin_index", None)
    if begin is not None:
        return begin
    has_begun = getattr(scheduler, "step_index", None) is not None
    return 0 if has_begun else nearest(levels, noise_level())


def nearest(levels: Sequence[float], level: float) -> int:
    """Index of the step whose noise level is nearest."""
    return min(range(len(levels)), key=lambda step: abs(levels[step] - level))


def noise_levels(timesteps: Sequence[float], train_timesteps: float) -> list[float]:
    """Noise level, 1 to 0, of each step of a schedule whose timesteps run 1000..0, 1..0 or, ascending, 0..1 or
    0..1000; or from π/2 to 0, the angles of TrigFlow (Sana-Sprint), whose noise weighs sin t and picture cos t. Those
    of Cosmos tell sigma, beyond the range of a flow: as ln(σ)/4, or as 1000σ.
    """
    if min(timesteps, default=0.0) < 0.0:
        return [_share_of_noise(math.exp(4.0 * timestep)) for timestep in timesteps]
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


def noise_level_in(family: Family, arguments: Arguments) -> float:
    """Noise level of the forward of a transformer of that family."""
    timestep = arguments.get(family.timestep_argument)
    return noise_level_of(timestep, family.timestep_scale, is_ascending=family.is_ascending)


def noise_level_of(timestep: Any, timestep_scale: float, *, is_ascending: bool) -> float:
    """Noise level of what a transformer is given; the noisiest token counts, for clean reference tokens have timestep
    0.

    Args:
        timestep: of any shape (per batch, per token, per frame).
        timestep_scale: its value at pure noise; or, if it is ascending, without noise.
        is_ascending: whether it is 0 at pure noise.
    Raises: ClockError if no timestep was given.
    """
    if timestep is None:
        raise ClockError("The transformer was called without a timestep; pass timestep=…, or attach to the pipeline.")
    timesteps = torch.as_tensor(timestep)
    level = float(timesteps.min() if is_ascending else timesteps.max()) / timestep_scale
    return min(max(1.0 - level if is_ascending else level, 0.0), 1.0)


def _train_timesteps(scheduler: Any) -> float:
    return scheduler.config.get("num_train_timesteps", 1000)
