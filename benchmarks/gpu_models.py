"""The models of gpu.py at the released sizes, built on a GPU in bfloat16 with random weights; or tiny on a CPU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch.utils._pytree import tree_map

from hosts import HOSTS, Built, Size, build


@dataclass(frozen=True)
class Place:
    """Where the rows are measured, and how long."""

    device: torch.device
    backend: str
    """Of torch.compile."""
    is_tiny: bool
    row_s: float
    """Rounds of a row begin no later than this."""
    most_rounds: int
    total_s: float


GPU = Place(torch.device("cuda"), "inductor", is_tiny=False, row_s=10.0, most_rounds=30, total_s=330.0)
REHEARSAL = Place(torch.device("cpu"), "eager", is_tiny=True, row_s=0.0, most_rounds=3, total_s=math.inf)


class Model(NamedTuple):
    title: str
    host: str
    short: Size
    long: Size
    tiny: Size
    casts_timestep: bool
    """Whether its pipeline casts the timestep, so that it is no view of the schedule."""


MODELS = {
    "wan": Model(
        "Wan 2.1 I2V 14B",
        "wan",
        Size(3, 60, 104, text=512, image=257),  # 832x480, 9 frames
        Size(9, 60, 104, text=512, image=257),  # 33 frames
        Size(1, 8, 8, text=512, image=257),
        casts_timestep=False,
    ),
    "hunyuan_video": Model(
        "HunyuanVideo 13B",
        "hunyuan_video",
        Size(3, 60, 104, text=256),
        Size(9, 60, 104, text=256),
        Size(1, 8, 8, text=16),
        casts_timestep=True,
    ),
}


def built_on(model: Model, place: Place) -> Built:
    """In bfloat16, drawn on the device: there is no copy in float32, and none in the computer's memory."""
    host = HOSTS[model.host]
    with in_bfloat16(), place.device:
        built = build(replace(host, size=model.short, tiny_size=model.tiny), is_tiny=place.is_tiny)
    built.pipeline.scheduler.set_timesteps(4, device=place.device)
    built.pipeline.scheduler.set_begin_index(0)
    return built


def resized(built: Built, model: Model, place: Place, *, is_long: bool) -> Built:
    """The same model with the inputs of one of its sizes."""
    size = model.tiny if place.is_tiny else model.long if is_long else model.short
    transformer, timestep = built.pipeline.transformer, built.pipeline.scheduler.timesteps[0].expand(1)
    with in_bfloat16(), place.device:
        arguments = HOSTS[model.host].arguments(transformer.config, size)
    arguments["timestep"] = timestep.to(torch.bfloat16) if model.casts_timestep else timestep
    on_device = tree_map(lambda leaf: leaf.to(place.device) if isinstance(leaf, torch.Tensor) else leaf, arguments)
    return built._replace(arguments={**on_device, "return_dict": False})


@contextmanager
def in_bfloat16() -> Iterator[None]:
    torch.set_default_dtype(torch.bfloat16)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
