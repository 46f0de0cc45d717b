"""What an attachment costs a forward: time as paired ratios, tensor operations as counts."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

import alignvid
from alignvid.miniature import load_pipeline
from alignvid.recipe import Recipe

PAIRS = 300
WARM_UP = 10
STEPS = 4
ACTIVE, INACTIVE = 990.0, 100.0  # timesteps inside and outside a window of noise levels above 0.9
EVERYWHERE = Recipe().override(
    blocks="all", steps=alignvid.StepWindow.noise_above(0.9), powers={"cross.text": 2.0, "cross.image": 1.0}
)


class Row(NamedTuple):
    what: str
    measured: str
    target: str
    n: str


class OperationCount(TorchDispatchMode):
    """Counts the tensor operations that run inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def ratio_rows() -> list[Row]:
    pipeline = load_pipeline()
    arguments = arguments_of_a_run(pipeline)
    rows = []
    for name, timestep, target in (("active step", ACTIVE, 1.02), ("inactive step", INACTIVE, 1.005)):
        run = forward(pipeline.transformer, arguments, timestep)
        ratios = paired_ratios(pipeline.transformer, run, EVERYWHERE, PAIRS)
        rows.append(spread_row(f"all blocks, text and image keys, {name}", ratios, f"<= {target}"))
    control = paired_ratios(pipeline.transformer, run, EVERYWHERE, PAIRS, is_control=True)
    return [*rows, spread_row("control: not attached in both", control, "1")]


def operation_rows() -> list[Row]:
    """Whole runs: the schedule is read once in each, and beyond that only active steps may add operations."""
    pipeline = load_pipeline()
    plain = operations(pipeline)
    with alignvid.attach(pipeline, EVERYWHERE, steps="none"):
        idle = operations(pipeline)
    with alignvid.attach(pipeline, EVERYWHERE, steps="all") as attachment:
        active = operations(pipeline)
    calls = attachment.acted_count
    return [
        Row("per active cross-attention, two scaled streams", f"{(active - idle) / calls:g}", "2", f"{calls} calls"),
        Row("per run without an active step (its schedule is read)", f"{idle - plain}", "0 a step", f"{STEPS} steps"),
    ]


@torch.no_grad()
def paired_ratios(
    transformer: Any, run: Callable[[], Any], recipe: Recipe, pairs: int, *, is_control: bool = False
) -> list[float]:
    """Seconds attached / seconds not attached; which of the two runs first alternates.

    In place of not attaching, the recipe is attached to a copy that does not run: what it leaves in memory, which alone
    can move a time by a hundredth, is the same in both. For the control the copy has it both times.
    """
    bystander = copy.deepcopy(transformer)
    hosts = {True: bystander if is_control else transformer, False: bystander}
    ratios = []
    for pair in range(WARM_UP + pairs):
        seconds = {}
        for is_attached in (True, False) if pair % 2 else (False, True):
            with alignvid.attach(hosts[is_attached], recipe):
                seconds[is_attached] = timed(run)
        ratios.append(seconds[True] / seconds[False])
    return ratios[WARM_UP:]


def spread_row(what: str, ratios: list[float], target: str) -> Row:
    """The median, with the order statistics that hold it with 95 % confidence, and the quartiles."""
    low, middle, high = statistics.quantiles(ratios, n=4)
    reach, ordered = 0.98 * len(ratios) ** 0.5, sorted(ratios)
    first, last = (
        ordered[max(0, int(len(ratios) / 2 - reach))],
        ordered[min(len(ratios) - 1, int(len(ratios) / 2 + reach))],
    )
    measured = f"{middle:.4f} [{first:.4f}, {last:.4f}] (quartiles {low:.4f} to {high:.4f})"
    return Row(what, measured, target, f"{len(ratios)} pairs")


def timed(run: Callable[[], Any]) -> float:
    """Processor seconds of this thread, so that other programs do not count; the first run only fills caches."""
    run()
    begin = time.thread_time()
    run()
    return time.thread_time() - begin


def operations(pipeline: Any) -> int:
    with OperationCount() as counter:
        run_pipeline(pipeline, STEPS)
    return counter.count


def run_pipeline(pipeline: Any, steps: int) -> None:
    pipeline.set_progress_bar_config(disable=True)
    image = Image.new("RGB", (64, 64), (90, 90, 90))
    given = {"height": 64, "width": 64, "num_frames": 9, "guidance_scale": 1.0, "num_inference_steps": steps}
    pipeline(image=image, prompt="add a red circle", generator=torch.Generator().manual_seed(0), **given)


def arguments_of_a_run(pipeline: Any) -> dict[str, Any]:
    """What the pipeline gives its transformer, caught at the first forward of a real call."""
    caught: dict[str, Any] = {}
    hook = pipeline.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: caught.update(kwargs), with_kwargs=True
    )
    run_pipeline(pipeline, 1)
    hook.remove()
    return caught


def forward(transformer: Any, arguments: dict[str, Any], timestep: float) -> Callable[[], Any]:
    given = {**arguments, "timestep": torch.tensor([timestep])}

    return lambda: transformer(**given)
