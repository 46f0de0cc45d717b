"""One pair through the model, watched: the foreground ratio of every block, and the pictures behind it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64, UInt8
from PIL import Image

from alignvid.analysis.token_rows import TokenRows, observe_token_rows
from alignvid.calibration.pca import principal_components, pseudo_rgb, strength
from alignvid.calibration.ratio import coverage, foreground_ratio, high_weights
from alignvid.errors import ObservationError
from alignvid.generate.model import Model
from alignvid.generate.plan import Plan
from alignvid.schedule import StepWindow


class Block(NamedTuple):
    """A block of a stack. Where a pipeline has two transformers, that block of both."""

    stack: str
    block: int


class View(NamedTuple):
    """What a block's attention singles out in one picture."""

    rgb: UInt8[np.ndarray, "height width 3"]
    """The pseudo-RGB view of the first latent frame of video tokens."""
    high: Float64[np.ndarray, "height width"]
    """The share of latent frames in which a place is among the high-attention tokens."""


@dataclass(frozen=True)
class Measurement:
    """What one pair shows."""

    ratios: Mapping[Block, float]
    chance: float
    """The ratio of a block that singles out nothing."""
    views: Mapping[Block, View]
    """Of the first transformer."""


def measure(model: Model, planned: Plan, mask: Bool[np.ndarray, "rows columns"], window: StepWindow) -> Measurement:
    """Run the pair's generation as far as the step window reaches, without decoding a video.

    Raises: ObservationError if the attention cannot be overheard, or is not finite.
    """
    generator = torch.Generator("cpu").manual_seed(planned.spec.seed)
    with torch.no_grad(), model.thread_limit(), observe_token_rows(model.pipeline, steps=window) as rows:
        arguments = planned.arguments | {"output_type": "latent", "generator": generator}
        model.pipeline(**arguments, **_stopping_after(rows, model.pipeline))
    return measurement(rows, mask)


def measurement(rows: TokenRows, mask: Bool[np.ndarray, "rows columns"]) -> Measurement:
    """The ratios of what was observed, for a mask with some foreground."""
    covered = coverage(mask, rows.grid)
    ratios: dict[Block, list[float]] = {}
    views: dict[Block, View] = {}
    for place in rows.sums:
        components = principal_components(rows.mean(place).numpy())
        frames, rest = divmod(len(components), covered.size)
        if rest:
            raise ObservationError(
                f"{len(components)} video tokens do not fill frames of {rows.grid[0]} x {rows.grid[1]}; this model "
                "cannot be calibrated."
            )
        strengths, block = strength(components), Block(place.stack, place.block)
        ratios.setdefault(block, []).append(foreground_ratio(strengths, np.tile(covered.ravel(), frames)))
        views.setdefault(block, _view(components, strengths, rows.grid))
    means = {block: float(np.mean(values)) for block, values in sorted(ratios.items())}
    return Measurement(means, foreground_ratio(np.zeros(covered.size), covered.ravel()), views)


def has_contrast(mask: Bool[np.ndarray, "rows columns"]) -> bool:
    """Whether a picture has both foreground and background; else every block would have the same ratio."""
    return bool(mask.any() and not mask.all())


def picture_of(planned: Plan) -> Image.Image:
    """The reference image as the model gets it."""
    assert planned.image is not None, "every pair has an image"
    return planned.image


def _view(
    components: Float64[np.ndarray, "token 3"], strengths: Float64[np.ndarray, " token"], grid: tuple[int, int]
) -> View:
    rgb = pseudo_rgb(components[: grid[0] * grid[1]]).reshape(*grid, 3)
    return View(rgb, high_weights(strengths).reshape(-1, *grid).mean(0))


def _stopping_after(rows: TokenRows, pipeline: Any) -> dict[str, Any]:
    """What makes a pipeline skip the steps after the window: diffusers' own interruption, where the pipeline has it."""
    if "callback_on_step_end" not in inspect.signature(type(pipeline).__call__).parameters:
        return {}

    def stop(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if rows.is_complete:
            pipeline._interrupt = True
        return {}

    return {"callback_on_step_end": stop}
