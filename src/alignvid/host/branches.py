"""The branches of guidance: which pass a forward may be, and which samples of its batch are of which branch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch

from alignvid.errors import AttachmentError
from alignvid.models.family import Arguments
from alignvid.recipe import Branch

Pass = Literal["cond", "uncond", "batched", "unknown"]
"""Which pass of classifier-free guidance a forward is; "batched" holds several branches in one batch."""

BATCHED = "cond_uncond"
"""Name of the cache context of a batch that holds several branches."""

UNCONDITIONAL_FIRST = ("uncond", "cond")

ALLOWED = "each 'cond', 'uncond', or one batch of them such as 'uncond+cond'"
"""How the passes of a step are given, for messages."""


def check_passes(passes: Sequence[str]) -> tuple[str, ...]:
    """The passes of a step: each "cond" or "uncond", or a batch that holds them in this order, "uncond+cond".

    Raises: AttachmentError if a word is none of these, or there is none.
    """
    given = (passes,) if isinstance(passes, str) else tuple(passes)
    words = [word for item in given for word in str(item).split("+")]
    if not words or any(word not in ("cond", "uncond") for word in words):
        raise AttachmentError(f"passes={passes!r} does not say the passes of a step: {ALLOWED}.")
    return given


def pass_named(context: str) -> Pass:
    """Branch by a context's name: "pred_cond" -> cond; "uncond_stg" -> uncond; "cond_uncond" -> batched."""
    if context == BATCHED:
        return "batched"
    if "uncond" in context:
        return "uncond"
    return "cond" if "cond" in context else "unknown"


def samples_in(arguments: Arguments) -> int:
    """Samples in the batch of a forward: those of its hidden states, or of the first tensor or list if it has none."""
    batch = batch_in(arguments)
    return batch.shape[0] if isinstance(batch, torch.Tensor) else len(batch)


def batch_in(arguments: Arguments) -> Any:
    """What is counted as the batch of a forward; empty if it has no tensor or list."""
    if "hidden_states" in arguments:
        return arguments["hidden_states"]
    return next((value for value in arguments.values() if isinstance(value, torch.Tensor | list)), ())


def as_pass(branch: str | None) -> Pass:
    """The pass of that name; unknown for any other."""
    return branch if branch in get_args(Pass) else "unknown"  # type: ignore[return-value]  # one of them


def active_samples(
    branch: Branch, running: Pass, arguments: Arguments, batch_order: Sequence[str]
) -> bool | list[bool]:
    """Does the gain act in this pass? A list by sample where a batch holds several branches.

    In a pass that is not known it acts only if it acts in all.

    Args:
        branch: the branch to modulate.
        running: the pass.
        arguments: of the forward.
        batch_order: branches in a batch; none means the unconditional half first.
    """
    if branch == "both":
        return True
    if running == "batched":
        parts = batch_order or UNCONDITIONAL_FIRST
        return [branch == part for part in parts for _ in range(samples_in(arguments) // len(parts))]
    return running == branch
