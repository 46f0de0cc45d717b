"""A guidance schedule: classifier-free guidance in the first steps only.

Practitioners' advice for distilled models: guidance where the layout is decided, none later, which saves half of each
later step. It is done by the callback that pipelines call after every step; they read their scale before each.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from alignvid.errors import InputError

_TWO_PASSES = ("WanPipeline", "WanImageToVideoPipeline", "WanVACEPipeline", "SkyReelsV2ImageToVideoPipeline")
"""Pipelines that run a pass for each branch and ask before each step whether there are two. Those that run both in one
batch have doubled their prompts by then."""


def check_schedule(pipeline_class: type, steps: int, guidance: float | None) -> None:
    """Refuse a schedule that would do nothing, or break a run.

    Raises: InputError naming what is wrong.
    """
    if steps < 1:
        raise InputError(f"cfg_high={steps} leaves no step with guidance; give 1 or more, or guidance=1.")
    if guidance is None or guidance <= 1:
        raise InputError(f"cfg_high={steps} needs guidance to end, but guidance is {guidance}; add guidance=5.")
    if not can_end(pipeline_class):
        raise InputError(
            f"cfg_high={steps} is for pipelines with a pass for each branch ({', '.join(_TWO_PASSES)}); "
            f"{pipeline_class.__name__} decides once for all steps."
        )


def can_end(pipeline_class: type) -> bool:
    """Whether a pipeline asks before each step whether there is guidance."""
    kinds = {kind.__name__ for kind in pipeline_class.__mro__}
    takes_callback = "callback_on_step_end" in inspect.signature(pipeline_class.__call__).parameters
    return takes_callback and bool(kinds & set(_TWO_PASSES))


def guided_until(steps: int) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
    """A callback after which, from step `steps` on, there is no guidance and no unconditional pass."""

    def after_step(pipeline: Any, step_index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if step_index + 1 >= steps:
            pipeline._guidance_scale = 1.0
        return values

    return after_step
