"""Which pass of classifier-free guidance a forward is, and which samples of its batch are acted on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch

from alignvid.host.transformers import Host
from alignvid.models.family import Arguments
from alignvid.recipe import Branch

Pass = Literal["cond", "uncond", "batched", "unknown"]
"""Which pass of classifier-free guidance a forward is; "batched" holds several branches in one batch."""


BATCHED = "cond_uncond"
"""Name of the cache context of a batch that holds several branches."""


UNCONDITIONAL_FIRST = ("uncond", "cond")


class PassReader:
    """Tells the CFG branch of a forward: by the name that the pipeline announces, else by the guider of a modular one,
    else by its order within the step.

    Pipelines without announced names (HunyuanVideo I2V, FramePack) run the conditional pass first, the other one
    second; or both in one batch, if the family says so.
    """

    def __init__(self, pipeline: Any = None) -> None:
        """`pipeline` is None for a bare transformer."""
        self._pipeline = pipeline
        self.announced: str | None = None
        """Name of the cache context that the pipeline has entered, such as "cond"."""
        self._step: tuple[int, int | None] | None = None
        self._order = 0

    def read(self, schedule_count: int, step_index: int | None, host: Host, arguments: Arguments) -> Pass:
        """The branch of the forward that a transformer is about to run, with these arguments."""
        step = (schedule_count, step_index)
        self._order = self._order + 1 if step == self._step and step_index is not None else 0
        self._step = step
        name = self.announced or self._guided_pass(host.name)
        branches = host.family.branches(arguments)
        is_silent_batch = name is None and self._pipeline is not None and bool(branches)
        if name == BATCHED or is_silent_batch:
            is_told = callable(host.family.batch_order) and bool(branches)
            return "batched" if is_told or self._is_guided(samples_in(arguments)) else "cond"
        if name is not None:
            return pass_named(name)
        return "cond" if step_index is not None and self._order == 0 else "uncond" if self._order == 1 else "unknown"

    def _guided_pass(self, transformer: str) -> str | None:
        """What the guider of a transformer calls the pass that is next in this step; None without one. The second pass
        is not always the unconditional one: `SkipLayerGuidance` alone runs "pred_cond" and "pred_cond_skip".
        """
        guider = getattr(self._pipeline, transformer.replace("transformer", "guider"), None)
        if guider is None or guider.get_state()["step"] is None:  # no guider, or it has not been asked for a step
            return None
        passes = [getattr(batch, guider._identifier_key) for batch in guider.prepare_inputs({})]
        return passes[self._order] if self._order < len(passes) else None

    def _is_guided(self, samples: int) -> bool:
        """Whether a batch that may hold all branches does: as the pipeline says, else by its scale and even size."""
        has_scale = getattr(self._pipeline, "guidance_scale", math.inf) > 1.0
        return getattr(self._pipeline, "do_classifier_free_guidance", has_scale and samples % 2 == 0)


def pass_named(context: str) -> Pass:
    """Branch by a context's name: "pred_cond" -> cond; "uncond_stg" -> uncond; "cond_uncond" -> batched."""
    if context == BATCHED:
        return "batched"
    if "uncond" in context:
        return "uncond"
    return "cond" if "cond" in context else "unknown"


def samples_in(arguments: Arguments) -> int:
    """Samples in the batch of a forward: those of its hidden states, or of the first tensor or list if it has none."""
    tensors = (value for value in arguments.values() if isinstance(value, torch.Tensor | list))
    return len(arguments.get("hidden_states", next(tensors, ())))


def active_samples(
    branch: Branch, running: Pass, arguments: Arguments, batch_order: Sequence[str]
) -> bool | list[bool]:
    """Does the gain act in this pass? A list by sample where a batch holds several branches.

    An unknown pass is modulated, as the released code modulates every pass.

    Args:
        branch: the branch to modulate.
        running: the pass.
        arguments: of the forward.
        batch_order: branches in a batch; none means the unconditional half first.
    """
    if branch == "both" or running == "unknown":
        return True
    if running == "batched":
        parts = batch_order or UNCONDITIONAL_FIRST
        return [branch == part for part in parts for _ in range(samples_in(arguments) // len(parts))]
    return running == branch
