"""The rows of gpu.py: one forward of a large model with random weights, attached and not attached in turn.

Every row has the same states as families.py, of twins that share their weights. A row that fails, or for which no time
is left, says so in its remark, and the next one runs.
"""

from __future__ import annotations

import gc
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch.utils._pytree import tree_map

from families import STATES, garbage_between_rounds, order, ratios, spread
from hosts import HOSTS, Built, Size, build, noted_tokens
from twins import Run, Twins, compile_by_region, one_forward, twins_of, two_threads, undo_compile


class GpuRow(NamedTuple):
    model: str
    run: str
    tokens: str
    detached_ms: str
    active: str
    inactive: str
    detached_again: str
    n: str
    peak_memory: str
    remark: str


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


class Task(NamedTuple):
    """One row of each model."""

    what: str
    run: Run
    attention: str
    is_compiled: bool
    is_long: bool
    needs_s: float
    """With less time left it is left out, on a GPU."""


GPU = Place(torch.device("cuda"), "inductor", is_tiny=False, row_s=12.0, most_rounds=30, total_s=330.0)
REHEARSAL = Place(torch.device("cpu"), "eager", is_tiny=True, row_s=0.0, most_rounds=3, total_s=math.inf)
LEAST_ROUNDS = 3
NATIVE, FLASH = "native", "_native_flash"  # PyTorch's flash kernel: the package flash_attn need not be there

TASKS = (
    Task("eager, native attention", one_forward, NATIVE, False, False, 15),
    Task("eager, flash attention", one_forward, FLASH, False, False, 15),
    Task("eager, two threads", two_threads, NATIVE, False, False, 20),
    Task("compiled by region, native attention", one_forward, NATIVE, True, False, 50),
    Task("compiled by region, two threads", two_threads, NATIVE, True, False, 40),
    Task("compiled by region, flash attention", one_forward, FLASH, True, False, 50),
    Task("eager, native attention, longer video", one_forward, NATIVE, False, True, 50),
)


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
        Size(5, 60, 104, text=512, image=257),  # 480p, 17 frames
        Size(21, 60, 104, text=512, image=257),  # 81 frames
        Size(1, 8, 8, text=512, image=257),
        casts_timestep=False,
    ),
    "hunyuan_video": Model(
        "HunyuanVideo 13B",
        "hunyuan_video",
        Size(5, 60, 104, text=256),
        Size(9, 90, 160, text=256),  # 720p, 33 frames
        Size(1, 8, 8, text=16),
        casts_timestep=True,
    ),
}


def gpu_rows(place: Place, names: tuple[str, ...] = tuple(MODELS)) -> Iterator[GpuRow]:
    """All rows, model by model; each model has its share of the time, and leaves to the next what it did not use."""
    begin = time.monotonic()
    for number, name in enumerate(names, start=1):
        yield from model_rows(MODELS[name], place, begin + place.total_s * number / len(names))
        gc.collect()
        if place.device.type == "cuda":
            torch.cuda.empty_cache()


def model_rows(model: Model, place: Place, end: float) -> Iterator[GpuRow]:
    """The rows of one model, as far as they can begin before `end` on the monotonic clock."""
    try:
        built = built_on(model, place)
    except Exception as error:  # too little memory, say; the other model may fit
        yield without_numbers(model, "build", said(error))
        return
    for task in TASKS:
        left = end - time.monotonic()
        if left < task.needs_s:
            yield without_numbers(model, task.what, f"left out: {max(left, 0):.0f} s left, {task.needs_s:.0f} s needed")
            continue
        try:
            yield measured(model, task, resized(built, model, task, place), place)
        except Exception as error:  # a row of its own: others may run
            yield without_numbers(model, task.what, said(error))


def built_on(model: Model, place: Place) -> Built:
    """In bfloat16, drawn on the device: there is no copy in float32, and none in the computer's memory."""
    host = HOSTS[model.host]
    with in_bfloat16(), place.device:
        built = build(replace(host, size=model.short, tiny_size=model.tiny), is_tiny=place.is_tiny)
    built.pipeline.scheduler.set_timesteps(4, device=place.device)
    built.pipeline.scheduler.set_begin_index(0)
    return built


def resized(built: Built, model: Model, task: Task, place: Place) -> Built:
    """The same model with the inputs of a task."""
    size = model.tiny if place.is_tiny else model.long if task.is_long else model.short
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


def measured(model: Model, task: Task, built: Built, place: Place) -> GpuRow:
    with torch.no_grad(), warnings.catch_warnings(), twins_of(built) as twins:
        warnings.filterwarnings("ignore", message=".*(TF32|max_autotune|torch.compile).*")
        try:
            for twin in twins.by_state.values():
                twin.pipeline.transformer.set_attention_backend(task.attention)
            if task.is_compiled:
                compile_by_region(twins, place.backend)
            with noted_tokens(twins.by_state["detached"]) as tokens:
                remark = compared(twins)  # graphs are made here, in one thread
            milliseconds = rounds(task.run, twins, place)
            memory = peak_memory(task.run, twins, place)
            counted = acted(twins)
        finally:
            undo_compile(twins)
    return GpuRow(
        model.title,
        task.what,
        f"{tokens[0]:,}",
        spread_ms(milliseconds["detached"]),
        *(spread(ratios(milliseconds, state)) for state in ("active", "inactive", "detached again")),
        str(len(milliseconds["detached"])),
        memory,
        f"{counted}; {remark}",
    )


def compared(twins: Twins) -> str:
    """What the gain changes in the output, and whether a detached and an inactive forward give the same bits."""
    outputs = {state: one_forward(built).float() for state, built in twins.by_state.items()}
    plain = outputs["detached"]
    if not plain.isfinite().all():
        return "the output of these random weights is not finite"
    scale = plain.abs().mean()
    change, stray = ((outputs[state] - plain).abs().mean() / scale for state in ("active", "inactive"))
    return f"active changes the output by {change:.2%}, inactive " + (f"by {stray:.1e}" if stray else "by no bit")


def acted(twins: Twins) -> str:
    """How often keys were multiplied. Raises: RuntimeError if that is not at every attention of every active forward."""
    active, inactive = twins.attachments["active"], twins.attachments["inactive"]
    expected = active.forward_count * active.site_count
    if not expected or active.acted_count != expected or inactive.acted_count:
        raise RuntimeError(
            f"active acted {active.acted_count} times of {expected}, inactive {inactive.acted_count} of 0"
        )
    return f"acted {active.acted_count} times"


def rounds(run: Run, twins: Twins, place: Place) -> dict[str, list[float]]:
    """Milliseconds by state, round by round; the first round is left out."""
    milliseconds: dict[str, list[float]] = {state: [] for state in STATES}
    end = time.monotonic() + place.row_s
    with garbage_between_rounds() as collect:
        for number in range(place.most_rounds + 1):
            if number > LEAST_ROUNDS and time.monotonic() > end:
                break
            for state in order(number):
                milliseconds[state].append(timed_ms(run, twins.by_state[state], place))
            collect()
    return {state: values[1:] for state, values in milliseconds.items()}


def timed_ms(run: Run, built: Built, place: Place) -> float:
    """Until the device is done; what Python does before its first kernel counts, for the device waits for it."""
    if place.device.type != "cuda":
        start = time.perf_counter()
        run(built)
        return 1000.0 * (time.perf_counter() - start)
    torch.cuda.synchronize()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run(built)
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def peak_memory(run: Run, twins: Twins, place: Place) -> str:
    """Of a detached run, and what an active one has more."""
    if place.device.type != "cuda":
        return "not counted on a CPU"
    peaks: dict[str, int] = {}
    for state in ("detached", "active"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        run(twins.by_state[state])
        torch.cuda.synchronize()
        peaks[state] = torch.cuda.max_memory_allocated()
    more = peaks["active"] - peaks["detached"]
    return f"{peaks['detached'] / 2**30:.2f} GiB, {more / 2**20:+.1f} MiB"


def spread_ms(values: list[float]) -> str:
    middle, low, high = (float(torch.tensor(values).quantile(part)) for part in (0.5, 0.25, 0.75))
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def without_numbers(model: Model, what: str, remark: str) -> GpuRow:
    return GpuRow(model.title, what, *[""] * 7, remark)


def said(error: BaseException) -> str:
    """Its kind and the beginning of its message, in one line."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:200]}".replace("|", "/")
