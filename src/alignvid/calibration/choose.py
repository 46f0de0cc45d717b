"""From the ratios of many pairs to blocks: means with intervals, and those above tau."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from alignvid.calibration.measure import Block
from alignvid.errors import InputError, MissingExtra

RESAMPLES = 9_999
CONFIDENCE = 0.95


@dataclass(frozen=True)
class BlockRatio:
    """The foreground ratio of a block."""

    stack: str
    block: int
    ratio: float
    """Mean over pairs."""
    low: float
    """The mean's 95 % interval, from a bootstrap over pairs."""
    high: float
    is_chosen: bool
    """Whether it is in the preset."""


def block_ratios(
    ratios: Float64[np.ndarray, "pair block"],
    blocks: Sequence[Block],
    *,
    tau: float,
    usable: Collection[Block],
    seed: int,
) -> list[BlockRatio]:
    """Means and intervals, and which blocks are chosen: the usable ones whose mean is above tau.

    Raises: MissingExtra if scipy is not installed.
    """
    try:
        from scipy.stats import bootstrap
    except ImportError as error:
        raise MissingExtra('Intervals need scipy; type: pip install "alignvid[calibrate]"') from error
    means = ratios.mean(0)
    interval = bootstrap(
        (ratios,),
        np.mean,
        axis=0,
        n_resamples=RESAMPLES,
        batch=500,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return [
        BlockRatio(*block, float(mean), float(low), float(high), block in usable and bool(mean > tau))
        for block, mean, low, high in zip(blocks, means, interval.low, interval.high, strict=True)
    ]


def chosen_blocks(measured: Sequence[BlockRatio]) -> dict[str, list[int]]:
    """The chosen blocks by stack."""
    chosen: dict[str, list[int]] = {}
    for item in measured:
        if item.is_chosen:
            chosen.setdefault(item.stack, []).append(item.block)
    return chosen


def check_choice(measured: Sequence[BlockRatio], usable: Collection[Block], tau: float) -> str | None:
    """A note if every usable block is chosen, for then the measurement has decided nothing.

    Raises: InputError if none is.
    """
    candidates = [item for item in measured if (item.stack, item.block) in usable]
    if not any(item.is_chosen for item in candidates):
        best = max(candidates, key=lambda item: item.ratio)
        raise InputError(
            f"No block has a foreground ratio above tau {tau:g}: the largest is {best.ratio:.3f}, of block "
            f"{best.block} of `{best.stack}`. Give a smaller --tau; what was measured is kept, so that this takes no "
            "time."
        )
    if all(item.is_chosen for item in candidates):
        least = min(item.ratio for item in candidates)
        return (
            f"Every block has a foreground ratio above tau {tau:g} (the least is {least:.3f}); a larger --tau chooses."
        )
    return None
