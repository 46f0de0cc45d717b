"""Caches of diffusers: at a window's edge the transformer computes what it would without a cache.

The window acts on steps 2 and 3 of six. Each cache is set to skip as much as it can, so that unattached it skips at
both edges; the proof compares the transformer's output there with that of a transformer without a cache.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    FasterCacheConfig,
    FirstBlockCacheConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
)
from torch import Tensor

import alignvid
from alignvid import StepWindow
from five import BUILDERS, FIVE, RECIPE, SLOW_BUT_TWO
from pipelines import generate

STEPS = 6
WINDOW = StepWindow.fraction(0.3, 0.6)  # steps 2 and 3
EDGES = (2, 4)
TOLERANCE = 1e-6  # the same kernels on the same inputs: zero but for a sum in another order
ALWAYS = (-1, 1001)  # timesteps


def first_block(pipe: DiffusionPipeline) -> Any:
    return FirstBlockCacheConfig(threshold=1e9)


def mag(pipe: DiffusionPipeline) -> Any:
    skip_all = {"threshold": 1e9, "max_skip_steps": STEPS, "retention_ratio": 0.0}
    return MagCacheConfig(**skip_all, num_inference_steps=STEPS, mag_ratios=[1.0] * STEPS)


def taylor_seer(pipe: DiffusionPipeline) -> Any:
    """It computes steps 0, 1 and 3."""
    return TaylorSeerCacheConfig(
        cache_interval=STEPS,
        disable_cache_before_step=2,
        taylor_factors_dtype=torch.float32,
        cache_identifiers=[r"(single_)?(transformer_)?blocks\.\d+\.attn\d?"],
    )


def pyramid_attention(pipe: DiffusionPipeline) -> Any:
    return PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=100,
        cross_attention_block_skip_range=100,
        spatial_attention_timestep_skip_range=ALWAYS,
        cross_attention_timestep_skip_range=ALWAYS,
        current_timestep_callback=lambda: 500,
    )


def faster(pipe: DiffusionPipeline) -> Any:
    """Attention is skipped, after the first step: what it keeps of one it cannot have before."""
    return FasterCacheConfig(
        spatial_attention_block_skip_range=100,
        spatial_attention_timestep_skip_range=(-1, 999),
        attention_weight_callback=lambda _: 0.3,
        is_guidance_distilled=True,
        current_timestep_callback=_after_a_step(pipe),
    )


def faster_with_guidance(pipe: DiffusionPipeline) -> Any:
    """The unconditional half of a batch is guessed from the conditional one, too."""
    return FasterCacheConfig(
        spatial_attention_block_skip_range=100,
        spatial_attention_timestep_skip_range=(-1, 999),
        unconditional_batch_skip_range=100,
        unconditional_batch_timestep_skip_range=ALWAYS,
        attention_weight_callback=lambda _: 0.3,
        tensor_format="BFCHW",
        current_timestep_callback=lambda: 500,
    )


def _after_a_step(pipe: DiffusionPipeline) -> Callable[[], int]:
    """A timestep that is out of the range until every attention has kept something once."""
    latch = [False]

    def timestep() -> int:
        registries = [getattr(module, "_diffusers_hook", None) for module in pipe.transformer.modules()]
        hooks = [hook for registry in registries if registry for hook in registry.hooks.values()]
        kept = [hook.state.cache is not None for hook in hooks if hasattr(getattr(hook, "state", None), "cache")]
        latch[0] = latch[0] or all(kept)
        return 500 if latch[0] else 1000

    return timestep


class Call(NamedTuple):
    """One forward of the transformer in a run."""

    step: int
    arguments: dict[str, Any]
    output: Tensor
    computed: int
    """Attentions that were computed, by their projections to keys."""


def calls_of(pipe: DiffusionPipeline, call: dict[str, Any], *, is_named: bool) -> list[Call]:
    """Every forward of a run; in one context for all of it where the pipeline names none itself."""
    calls: list[Call] = []
    timesteps: list[float] = []
    computed: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: computed.append(name))
        for name, module in pipe.transformer.named_modules()
        if name.endswith("to_k")
    ]

    def note(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        timestep = float(kwargs["timestep"].max())
        if timestep not in timesteps:
            timesteps.append(timestep)
        calls.append(Call(timesteps.index(timestep), dict(kwargs), output[0].clone(), len(computed)))
        computed.clear()

    hooks.append(pipe.transformer.register_forward_hook(note, with_kwargs=True))
    with nullcontext() if is_named else pipe.transformer.cache_context("the whole run"):
        generate(pipe, call, num_inference_steps=STEPS)
    for hook in hooks:
        hook.remove()
    return calls


def computed_at(calls: list[Call], step: int) -> int:
    return max(call.computed for call in calls if call.step == step)


CACHES: dict[str, Callable[[DiffusionPipeline], Any]] = {
    "FirstBlockCache": first_block,
    "MagCache": mag,
    "TaylorSeer": taylor_seer,
    "PAB": pyramid_attention,
    "FasterCache": faster,
    "FasterCache, batched guidance": faster_with_guidance,
}
UNNAMED = ("framepack_v1", "flux_kontext")
"""Their pipelines name no context, which FirstBlockCache and TaylorSeer need."""
RUNS = [
    pytest.param(name, combination, marks=SLOW_BUT_TWO[name])
    for name in FIVE
    for combination in CACHES
    if combination != "FasterCache, batched guidance" or name == "cogvideox_i2v"  # the one with a batch
]


@pytest.mark.combines
@pytest.mark.filterwarnings("ignore:torch.meshgrid")  # diffusers' FasterCache
@pytest.mark.parametrize("is_attached_first", [True, False], ids=["attached first", "cache first"])
@pytest.mark.parametrize(("name", "combination"), RUNS)
def test_at_both_edges_the_transformer_computes_as_without_a_cache(
    name, combination, is_attached_first, record_property
):
    uncached, call = BUILDERS[name]()
    unattached, _ = BUILDERS[name]()
    pipe, _ = BUILDERS[name]()
    is_named = name not in UNNAMED
    unattached.transformer.enable_cache(CACHES[combination](unattached))
    without = calls_of(unattached, call, is_named=is_named)
    config = CACHES[combination](pipe)
    steps = [lambda: alignvid.attach(pipe, RECIPE, steps=WINDOW), lambda: pipe.transformer.enable_cache(config)]
    for step in steps if is_attached_first else reversed(steps):
        step()
    attached = calls_of(pipe, call, is_named=is_named)
    for edge in EDGES:
        assert computed_at(without, edge) < computed_at(without, 0)  # else nothing is proved
        assert computed_at(attached, edge) == computed_at(attached, 0)
    for run in attached:
        if run.step in EDGES:
            assert (run.output - explicit(uncached, run)).abs().max() <= TOLERANCE
    record_property("pipeline", type(pipe).__name__)


def explicit(uncached: DiffusionPipeline, run: Call) -> Tensor:
    """What a transformer without a cache makes of the same arguments, in or out of the window."""
    is_in_window = run.step == EDGES[0]
    with torch.no_grad():
        if not is_in_window:
            return uncached.transformer(**run.arguments)[0]
        with alignvid.attach(uncached.transformer, RECIPE, steps=StepWindow.all()):
            return uncached.transformer(**run.arguments)[0]


@pytest.mark.parametrize("combination", ["FirstBlockCache", "MagCache", "PAB"])
def test_within_the_window_and_outside_the_cache_skips_as_before(combination):
    pipe, call = BUILDERS["wan_i2v"]()
    pipe.transformer.enable_cache(CACHES[combination](pipe))
    alignvid.attach(pipe, RECIPE, steps=WINDOW)
    calls = calls_of(pipe, call, is_named=True)
    assert all(computed_at(calls, step) < computed_at(calls, 0) for step in (1, 3, 5))


@pytest.mark.parametrize("combination", ["FirstBlockCache", "MagCache", "PAB"])
def test_detaching_in_the_middle_of_a_run_forgets_what_was_computed_with_a_gain(combination):
    uncached, call = BUILDERS["cogvideox_i2v"]()
    pipe, _ = BUILDERS["cogvideox_i2v"]()
    pipe.transformer.enable_cache(CACHES[combination](pipe))
    attachment = alignvid.attach(pipe, RECIPE, steps=StepWindow.all())

    def detach_after_the_second_step(_: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if step == 1:
            attachment.detach()
        return kwargs

    calls = calls_of(pipe, {**call, "callback_on_step_end": detach_after_the_second_step}, is_named=True)
    (after,) = [run for run in calls if run.step == 2]
    assert (after.output - uncached.transformer(**after.arguments)[0]).abs().max() <= TOLERANCE


def test_modulating_one_branch_leaves_the_cached_residual_of_the_other_alone():
    pipe, call = BUILDERS["wan_i2v"]()
    pipe.transformer.enable_cache(CACHES["FirstBlockCache"](pipe))
    alignvid.attach(pipe, RECIPE, steps=WINDOW, branch="cond")
    calls = calls_of(pipe, call, is_named=True)
    cond, uncond = calls[0::2], calls[1::2]
    assert [run.computed == cond[0].computed for run in cond] == [True, False, True, False, True, False]
    assert [run.computed == uncond[0].computed for run in uncond] == [True, False, False, False, False, False]
