"""What one forward is given of the time: its timestep, read only where that must be.

In many pipelines it is a view of the scheduler's list of timesteps: then its place in memory says which one, without a
transfer from the device. Elsewhere its value is read, which is one transfer per step where it lies on an accelerator.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from alignvid.errors import ScheduleError
from alignvid.host.noise import level_at, logarithm_level, noisiest
from alignvid.host.transformers import Host
from alignvid.models.family import Arguments
from alignvid.schedule import FlowSchedule

_OFF_BY_ONE = 1.1e-3
"""Of a noise level: GLM-Image gives t - 1, Helios and UniPC cut to whole timesteps; no family is further off."""
_MOST_STEPS = 10_000
"""What is longer is no schedule, and not looked at."""


class Given:
    """The timestep of one forward, of any shape (per batch, per token, per frame), and its noise level on demand."""

    def __init__(self, host: Host, arguments: Arguments) -> None:
        """Nothing is read yet."""
        self._host, self._is_ascending = host, host.family.time.is_ascending
        self.timestep: Any = arguments.get(host.family.time.argument)
        self._version = _version(self.timestep)

    def or_same(self, earlier: Given | None) -> Given:
        """The earlier one, with what was read of it, if it is the same tensor: the passes of a step often share one."""
        if earlier is None or self.timestep is not earlier.timestep:
            return self
        return earlier if self._version is not None and self._version == earlier._version else self

    @cached_property
    def value(self) -> float:
        """The timestep of the noisiest token. Raises: ClockError if no timestep was given."""
        return noisiest(self.timestep, is_ascending=self._is_ascending)

    @cached_property
    def level(self) -> float:
        """Noise level, 1 to 0. Raises: ClockError if no timestep was given."""
        return level_at(self.value, self._scale(), is_ascending=self._is_ascending)

    def _scale(self) -> float:
        return self._host.family.scale_of(self._host.transformer)

    @cached_property
    def logarithm_level(self) -> float:
        """Noise level where the timestep is ln(σ)/4, as in Cosmos 1."""
        return logarithm_level(self.value)

    @property
    def tolerance(self) -> float:
        """How far its noise level may lie from that of its step: pipelines divide and round it, to bfloat16 for one."""
        dtype = self.timestep.dtype if isinstance(self.timestep, Tensor) else torch.float64
        return _OFF_BY_ONE + (torch.finfo(dtype).eps if dtype.is_floating_point else 0.0)

    def offset_in(self, timesteps: Any) -> int | None:
        """Which of these timesteps it is a view of; None if it lies elsewhere in memory."""
        if not isinstance(timesteps, Tensor) or timesteps.ndim != 1 or not isinstance(self.timestep, Tensor):
            return None
        address = self.timestep.untyped_storage().data_ptr()
        if not address or address != timesteps.untyped_storage().data_ptr() or not _is_one_number(self.timestep):
            return None
        step = (self.timestep.storage_offset() - timesteps.storage_offset()) // (timesteps.stride(0) or 1)
        return step if 0 <= step < len(timesteps) else None

    @cached_property
    def whole(self) -> Tensor | None:
        """All numbers that lie in memory with the one that it is a view of; None if it is not a view of one."""
        timestep = self.timestep
        if not isinstance(timestep, Tensor) or timestep.is_meta or not _is_one_number(timestep):
            return None
        count = timestep.untyped_storage().nbytes() // timestep.itemsize
        if not 2 <= count <= _MOST_STEPS or not timestep.untyped_storage().data_ptr():
            return None
        return timestep.detach().as_strided((count,), (1,), 0)

    def schedule(self) -> list[float] | None:
        """Noise levels of the schedule that its timestep is a view of: numbers that run from noise to none, in order.

        The last one is left out where it is 0 and no whole number: that is the end of a flow, at which nothing is run.
        """
        if self.whole is None:
            return None
        values = self.whole.float().tolist()
        if min(values) < 0.0 and not self._is_ascending:
            levels = [logarithm_level(value) for value in values]
        else:
            scale = self._scale()
            levels = [level_at(value, scale, is_ascending=self._is_ascending) for value in values]
        if levels[-1] == 0.0 and self.whole.dtype.is_floating_point:
            levels.pop()
        is_in_order = all(one >= next_one for one, next_one in itertools.pairwise(levels))
        return levels if is_in_order and levels[0] > levels[-1] else None


def _is_one_number(tensor: Tensor) -> bool:
    """Whether it shows one number of its memory, expanded or not."""
    return tensor.numel() > 0 and all(
        size == 1 or not step for size, step in zip(tensor.shape, tensor.stride(), strict=True)
    )


def _version(timestep: Any) -> int | None:
    """Counts changes in place; None if nothing does."""
    return timestep._version if isinstance(timestep, Tensor) and not timestep.is_inference() else None


def given_levels(schedule: FlowSchedule | Sequence[float] | Tensor, host: Host) -> list[float]:
    """Noise level of each step of a schedule that the caller of a bare transformer gives.

    Raises: ScheduleError if it holds no step, or does not run from noise to none.
    """
    if isinstance(schedule, FlowSchedule):
        return schedule.noise_levels
    timesteps = torch.as_tensor(schedule, dtype=torch.float64).flatten().tolist()
    scale, is_ascending = host.family.scale_of(host.transformer), host.family.time.is_ascending
    levels = [level_at(timestep, scale, is_ascending=is_ascending) for timestep in timesteps]
    if not levels or any(one <= next_one for one, next_one in itertools.pairwise(levels)):
        shown = ", ".join(f"{timestep:g}" for timestep in timesteps[:6])
        direction = f"0 up to {scale:g}" if is_ascending else f"{scale:g} down to 0"
        raise ScheduleError(
            f"schedule ({shown}{' …' if len(timesteps) > 6 else ''}) does not run from noise to none: give the "
            f"timesteps that {type(host.transformer).__name__} is given, each once, from {direction}, or a "
            "FlowSchedule."
        )
    return levels
