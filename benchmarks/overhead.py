"""What an attachment costs a forward: time as paired ratios, tensor operations as counts."""

from __future__ import annotations

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
        ratios = paired_ratios(pipeline.transformer, forward(pipeline.transformer, arguments, timestep))
        quartiles = statistics.quantiles(ratios, n=4)
        measured = f"{statistics.median(ratios):.4f} (quartiles {quartiles[0]:.4f} to {quartiles[2]:.4f})"
        rows.append(Row(f"all blocks, text and image keys, {name}", measured, f"<= {target}", f"{len(ratios)} pairs"))
    return rows


def operation_rows() -> list[Row]:
    pipeline = load_pipeline()
    transformer, arguments = pipeline.transformer, arguments_of_a_run(pipeline)
    plain = operations(forward(transformer, arguments, ACTIVE))
    with alignvid.attach(transformer, EVERYWHERE) as attachment:
        sites = attachment.site_count
        active = (operations(forward(transformer, arguments, ACTIVE)) - plain) / sites
        inactive = (operations(forward(transformer, arguments, INACTIVE)) - plain) / sites
    return [
        Row("active step, two scaled streams", f"{active:g}", "2 (one per stream)", f"{sites} sites"),
        Row("inactive step", f"{inactive:g}", "0", f"{sites} sites"),
    ]


def paired_ratios(transformer: Any, run: Callable[[], Any]) -> list[float]:
    """Seconds attached / seconds not attached; which of the two runs first alternates."""
    ratios = []
    for pair in range(WARM_UP + PAIRS):
        seconds = {}
        for is_attached in (True, False) if pair % 2 else (False, True):
            seconds[is_attached] = timed(run, transformer) if is_attached else timed(run)
        ratios.append(seconds[True] / seconds[False])
    return ratios[WARM_UP:]


def timed(run: Callable[[], Any], attach_to: Any = None) -> float:
    """Processor seconds of this thread, so that other programs do not count; of the second run, for the first fills
    caches.
    """
    if attach_to is None:
        run()
        begin = time.thread_time()
        run()
        return time.thread_time() - begin
    with alignvid.attach(attach_to, EVERYWHERE):
        return timed(run)


def operations(run: Callable[[], Any]) -> int:
    with OperationCount() as counter:
        run()
    return counter.count


def arguments_of_a_run(pipeline: Any) -> dict[str, Any]:
    """What the pipeline gives its transformer, caught at the first forward of a real call."""
    caught: dict[str, Any] = {}
    hook = pipeline.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: caught.update(kwargs), with_kwargs=True
    )
    pipeline.set_progress_bar_config(disable=True)
    image = Image.new("RGB", (64, 64), (90, 90, 90))
    pipeline(image=image, prompt="add a red circle", height=64, width=64, num_frames=9, num_inference_steps=1)
    hook.remove()
    return caught


def forward(transformer: Any, arguments: dict[str, Any], timestep: float) -> Callable[[], Any]:
    given = {**arguments, "timestep": torch.tensor([timestep])}

    def run() -> Any:
        with torch.no_grad():
            return transformer(**given)[0]

    return run
