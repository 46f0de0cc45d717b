"""What an attachment costs a forward: time as paired ratios, tensor operations as counts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import alignvid
from alignvid.miniature import load_pipeline
from alignvid.recipe import Recipe

PAIRS = 60
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
    transformer = load_pipeline().transformer
    rows = []
    for name, timestep, target in (("active step", ACTIVE, 1.02), ("inactive step", INACTIVE, 1.005)):
        ratios = paired_ratios(transformer, timestep)
        quartiles = statistics.quantiles(ratios, n=4)
        measured = f"{statistics.median(ratios):.4f} (quartiles {quartiles[0]:.4f} to {quartiles[2]:.4f})"
        rows.append(Row(f"all blocks, text and image keys, {name}", measured, f"<= {target}", f"{len(ratios)} pairs"))
    return rows


def operation_rows() -> list[Row]:
    transformer = load_pipeline().transformer
    plain = operations(transformer, ACTIVE)
    with alignvid.attach(transformer, EVERYWHERE) as attachment:
        sites = attachment.site_count
        active = (operations(transformer, ACTIVE) - plain) / sites
        inactive = (operations(transformer, INACTIVE) - plain) / sites
    return [
        Row("active step, two scaled streams", f"{active:g}", "2 (one per stream)", f"{sites} sites"),
        Row("inactive step", f"{inactive:g}", "0", f"{sites} sites"),
    ]


def paired_ratios(transformer: Any, timestep: float) -> list[float]:
    """Seconds attached / seconds not attached; which of the two runs first alternates."""
    run = forward(transformer, timestep)
    ratios = []
    for pair in range(WARM_UP + PAIRS):
        seconds = {}
        for is_attached in (True, False) if pair % 2 else (False, True):
            seconds[is_attached] = timed(run, transformer) if is_attached else timed(run)
        ratios.append(seconds[True] / seconds[False])
    return ratios[WARM_UP:]


def timed(run: Callable[[], Any], attach_to: Any = None) -> float:
    if attach_to is None:
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin
    with alignvid.attach(attach_to, EVERYWHERE):
        return timed(run)


def operations(transformer: Any, timestep: float) -> int:
    with OperationCount() as counter:
        forward(transformer, timestep)()
    return counter.count


def forward(transformer: Any, timestep: float) -> Callable[[], Any]:
    """One forward of the shapes that the pipeline gives the transformer."""
    config = transformer.config
    torch.manual_seed(0)
    arguments = {
        "hidden_states": torch.randn(1, config.in_channels, 3, 16, 16),
        "timestep": torch.tensor([timestep]),
        "encoder_hidden_states": torch.randn(1, 512, config.text_dim),
        "encoder_hidden_states_image": torch.randn(1, 17, config.image_dim),
    }

    def run() -> Any:
        with torch.no_grad():
            return transformer(**arguments, return_dict=False)[0]

    return run
