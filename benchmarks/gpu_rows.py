"""The rows of gpu.py: one forward of a large model with random weights, attached and not attached in turn.

Every row has the same states as families.py, of twins that share their weights. A row that fails, or for which no time
is left, says so in its remark, and the next one runs.
"""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import torch

from families import STATES, garbage_between_rounds, order, ratios, spread
from gpu_models import MODELS, Model, Place, built_on, resized
from hosts import Built, noted_tokens
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


class Task(NamedTuple):
    """One row of each model."""

    what: str
    run: Run
    attention: str
    is_compiled: bool
    is_long: bool
    needs_s: float
    """With less time left it is left out, on a GPU."""


LEAST_ROUNDS = 3
NATIVE, FLASH = "native", "_native_flash"  # PyTorch's flash kernel: the package flash_attn need not be there

TASKS = (
    Task("eager, native attention", one_forward, NATIVE, False, False, 15),
    Task("eager, flash attention", one_forward, FLASH, False, False, 15),
    Task("eager, two threads", two_threads, NATIVE, False, False, 20),
    Task("compiled by region, native attention", one_forward, NATIVE, True, False, 45),
    Task("compiled by region, two threads", two_threads, NATIVE, True, False, 25),
    Task("compiled by region, flash attention", one_forward, FLASH, True, False, 30),
    Task("eager, native attention, 33 frames", one_forward, NATIVE, False, True, 25),
)


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
            yield measured(model, task, resized(built, model, place, is_long=task.is_long), place)
        except Exception as error:  # a row of its own: others may run
            yield without_numbers(model, task.what, said(error))


def measured(model: Model, task: Task, built: Built, place: Place) -> GpuRow:
    with torch.no_grad(), warnings.catch_warnings(), twins_of(built) as twins:
        warnings.filterwarnings("ignore", message=".*(TF32|max_autotune|torch.compile).*")
        try:
            for twin in twins.by_state.values():
                twin.pipeline.transformer.set_attention_backend(task.attention)
            if task.is_compiled:
                one_forward(twins.by_state["detached"])  # what it refuses is said in plainer words than when compiled
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
    """How often keys were multiplied.

    Raises: RuntimeError if that is not at every attention of every active forward.
    """
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
