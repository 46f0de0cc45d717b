"""Caches of diffusers: at a window's edge the transformer computes what it would without a cache.

The window acts on steps 2 and 3 of six. Each cache is set to skip as much as it can, so that unattached it skips at
both edges; the proof compares the transformer's output there with that of a transformer without a cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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

import alignvid
from alignvid import StepWindow
from cached_runs import EDGES, STEPS, TOLERANCE, WINDOW, calls_of, computed_at, counts, in_order, off_at_the_edges
from five import BUILDERS, FIVE, RECIPE, SLOW_BUT_TWO

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
    context = "the whole run" if name in UNNAMED else None
    unattached.transformer.enable_cache(CACHES[combination](unattached))
    without = calls_of(unattached, call, context=context)
    config = CACHES[combination](pipe)
    in_order(
        is_attached_first,
        lambda: alignvid.attach(pipe, RECIPE, steps=WINDOW),
        lambda: pipe.transformer.enable_cache(config),
    )
    attached = calls_of(pipe, call, context=context)
    for edge in EDGES:
        assert computed_at(without, edge) < computed_at(without, 0)  # else nothing is proved
        assert computed_at(attached, edge) == computed_at(attached, 0)
    assert off_at_the_edges(attached, uncached) <= TOLERANCE
    record_property("pipeline", type(pipe).__name__)


@pytest.mark.parametrize("combination", ["FirstBlockCache", "MagCache", "PAB"])
def test_within_the_window_and_outside_the_cache_skips_as_before(combination):
    pipe, call = BUILDERS["wan_i2v"]()
    pipe.transformer.enable_cache(CACHES[combination](pipe))
    alignvid.attach(pipe, RECIPE, steps=WINDOW)
    calls = calls_of(pipe, call)
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

    calls = calls_of(pipe, {**call, "callback_on_step_end": detach_after_the_second_step})
    (after,) = [run for run in calls if run.step == 2]
    assert (after.output - uncached.transformer(**after.arguments)[0]).abs().max() <= TOLERANCE


def test_modulating_one_branch_leaves_the_cached_residual_of_the_other_alone():
    pipe, call = BUILDERS["wan_i2v"]()
    pipe.transformer.enable_cache(CACHES["FirstBlockCache"](pipe))
    alignvid.attach(pipe, RECIPE, steps=WINDOW, branch="cond")
    calls = calls_of(pipe, call)
    whole, skipped = counts(calls)[0], counts(calls)[2]
    assert skipped < whole
    assert counts(calls[0::2]) == [whole, skipped, whole, skipped, whole, skipped]
    assert counts(calls[1::2]) == [whole] + [skipped] * 5
