"""Runs of a pipeline with a cache, forward by forward, beside what a transformer without one makes of the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

import alignvid
from alignvid import StepWindow
from five import RECIPE
from pipelines import generate

STEPS = 6
WINDOW = StepWindow.fraction(0.3, 0.6)  # steps 2 and 3
EDGES = (2, 4)
TOLERANCE = 1e-6  # the same kernels on the same inputs: zero but for a sum in another order


class Call(NamedTuple):
    """One forward of a transformer in a run."""

    transformer: str
    """Attribute of the pipeline."""
    step: int
    arguments: dict[str, Any]
    output: Tensor
    computed: int
    """Attentions that were computed, by their projections to keys."""


def calls_of(pipe: DiffusionPipeline, call: dict[str, Any], *, context: str | None = None) -> list[Call]:
    """Every forward of a run; in one cache context for all of it, if it is named here."""
    calls: list[Call] = []
    timesteps: list[float] = []
    computed: list[str] = []
    transformers = {name: part for name, part in pipe.components.items() if name.startswith("transformer") and part}
    hooks = [
        module.register_forward_hook(lambda *_, name=name: computed.append(name))
        for transformer in transformers.values()
        for name, module in transformer.named_modules()
        if name.endswith("to_k")
    ]

    def note(name: str) -> Callable[..., None]:
        def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            timestep = float(kwargs["timestep"].max())
            if timestep not in timesteps:
                timesteps.append(timestep)
            calls.append(Call(name, timesteps.index(timestep), dict(kwargs), output[0].clone(), len(computed)))
            computed.clear()

        return hook

    for name, transformer in transformers.items():
        hooks.append(transformer.register_forward_hook(note(name), with_kwargs=True))
    with pipe.transformer.cache_context(context) if context else nullcontext():
        generate(pipe, call, num_inference_steps=STEPS)
    for hook in hooks:
        hook.remove()
    return calls


def computed_at(calls: Sequence[Call], step: int) -> int:
    """Most attentions that were computed in a forward of a step."""
    return max(call.computed for call in calls if call.step == step)


def counts(calls: Sequence[Call]) -> list[int]:
    """Attentions that were computed, forward by forward."""
    return [call.computed for call in calls]


def off_at_the_edges(calls: Sequence[Call], uncached: DiffusionPipeline) -> float:
    """Largest difference, at both edges, to a transformer without a cache that the gain acts on or not as it should."""
    differences = [run.output - explicit(uncached, run) for run in calls if run.step in EDGES]
    return max(float(difference.abs().max()) for difference in differences)


def explicit(uncached: DiffusionPipeline, run: Call) -> Tensor:
    """What a transformer without a cache makes of the same arguments, in or out of the window."""
    transformer = getattr(uncached, run.transformer)
    with torch.no_grad():
        if run.step not in range(*EDGES):
            return transformer(**run.arguments)[0]
        with alignvid.attach(transformer, RECIPE, steps=StepWindow.all()):
            return transformer(**run.arguments)[0]


def in_order(is_attached_first: bool, attach: Callable[[], Any], enable: Callable[[], Any]) -> None:
    """Both, one before the other."""
    for step in (attach, enable) if is_attached_first else (enable, attach):
        step()
