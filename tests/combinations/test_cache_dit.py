"""cache-dit: at a window's edge the transformer computes what it would without a cache, as with those of diffusers.

Every variant skips as much as it can, so that unattached it skips at both edges (cached_runs.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cache_dit
import pytest
import torch
from cache_dit import DBCacheConfig, DBPruneConfig, TaylorSeerCalibratorConfig
from diffusers import DiffusionPipeline, FirstBlockCacheConfig
from torch import nn

import alignvid
from alignvid import BlockSet, StepWindow
from cached_runs import EDGES, STEPS, TOLERANCE, WINDOW, calls_of, computed_at, counts, in_order, off_at_the_edges
from five import BUILDERS, RECIPE
from pipelines import generate

FIRST_BLOCK = {
    "Fn_compute_blocks": 1,
    "Bn_compute_blocks": 0,
    "max_warmup_steps": 1,
    "residual_diff_threshold": 1e9,
}


def db_cache(**changes: Any) -> dict[str, Any]:
    return {"cache_config": DBCacheConfig(**FIRST_BLOCK | changes)}


VARIANTS: dict[str, Callable[[], dict[str, Any]]] = {
    "cache-dit: DBCache": db_cache,
    "cache-dit: DBCache F1B1": lambda: db_cache(Bn_compute_blocks=1),
    "cache-dit: TaylorSeer": lambda: {
        **db_cache(max_warmup_steps=2),
        "calibrator_config": TaylorSeerCalibratorConfig(taylorseer_order=1),
    },
    "cache-dit: SCM": lambda: db_cache(
        steps_computation_mask=[1] + [0] * (STEPS - 1), steps_computation_policy="static"
    ),
    "cache-dit: DBPrune": lambda: {"cache_config": DBPruneConfig(**FIRST_BLOCK)},
    "cache-dit: transformer alone": lambda: db_cache(num_inference_steps=STEPS),
}
TWO_EXPERTS = "cache-dit: two experts"
SUPPORTED = ("wan_i2v", "flux_kontext", "cogvideox_i2v", "qwen_image_edit")
"""Of the five pipelines; cache-dit 1.5.3 refuses the transformer of FramePack."""
RUNS = [
    pytest.param(name, variant, marks=() if name == "wan_i2v" else pytest.mark.slow)
    for name in SUPPORTED
    for variant in VARIANTS
]
ORDERS = pytest.mark.parametrize("is_attached_first", [True, False], ids=["attached first", "cache first"])


@contextmanager
def disabled_in_the_end(pipe: DiffusionPipeline, variant: str) -> Iterator[Callable[[], Any]]:
    """What enables a variant. cache-dit changes the pipeline's class, so that one at a time may be enabled."""
    target: DiffusionPipeline | nn.Module = pipe.transformer if variant == "cache-dit: transformer alone" else pipe
    try:
        yield lambda: cache_dit.enable_cache(target, **VARIANTS[variant]())
    finally:
        cache_dit.disable_cache(target)


@pytest.mark.combines
@ORDERS
@pytest.mark.parametrize(("name", "combination"), RUNS)
@pytest.mark.contract(
    "caches",
    done="cache-dit: DBCache, TaylorSeer, SCM, DBPrune; before and after attaching",
    guaranteed="at both edges as without a cache",
)
def test_at_both_edges_the_transformer_computes_as_without_a_cache(
    name, combination, is_attached_first, record_property
):
    uncached, call = BUILDERS[name]()
    unattached, _ = BUILDERS[name]()
    pipe, _ = BUILDERS[name]()
    with disabled_in_the_end(unattached, combination) as enable:
        enable()
        without = calls_of(unattached, call)
    with disabled_in_the_end(pipe, combination) as enable:
        in_order(is_attached_first, lambda: alignvid.attach(pipe, RECIPE, steps=WINDOW), enable)
        attached = calls_of(pipe, call)
    for edge in EDGES:
        assert computed_at(without, edge) < computed_at(without, 0)  # else nothing is proved
        assert computed_at(attached, edge) == computed_at(attached, 0)
    assert off_at_the_edges(attached, uncached) <= TOLERANCE
    record_property("pipeline", type(pipe).__name__)


@pytest.mark.combines
@ORDERS
@pytest.mark.parametrize(("name", "combination"), [("wan_i2v", TWO_EXPERTS)])  # of the same class
def test_both_experts_of_wan_2_2_forget_at_their_own_edges(name, combination, is_attached_first, record_property):
    uncached, call = BUILDERS["wan22_i2v"]()
    pipe, _ = BUILDERS["wan22_i2v"]()
    with disabled_in_the_end(pipe, "cache-dit: DBCache") as enable:
        in_order(is_attached_first, lambda: alignvid.attach(pipe, RECIPE, steps=WINDOW), enable)
        calls = calls_of(pipe, call)
    assert {run.transformer for run in calls} == {"transformer", "transformer_2"}
    assert all(run.computed == calls[0].computed for run in calls if run.step in EDGES)
    assert any(run.computed < calls[0].computed for run in calls)
    assert off_at_the_edges(calls, uncached) <= TOLERANCE
    record_property("pipeline", type(pipe).__name__)


def test_the_same_forwards_are_computed_whole_as_with_first_block_cache():
    of_diffusers, call = BUILDERS["wan_i2v"]()
    of_diffusers.transformer.enable_cache(FirstBlockCacheConfig(threshold=1e9))
    alignvid.attach(of_diffusers, RECIPE, steps=WINDOW)
    pipe, _ = BUILDERS["wan_i2v"]()
    with disabled_in_the_end(pipe, "cache-dit: DBCache") as enable:
        enable()
        alignvid.attach(pipe, RECIPE, steps=WINDOW)
        computed = counts(calls_of(pipe, call))
    assert computed == counts(calls_of(of_diffusers, call))
    assert computed == [6, 6, 2, 2] * 3  # two projections to keys in each of three blocks; two passes


def test_modulating_one_branch_leaves_what_is_kept_of_the_other_alone():
    pipe, call = BUILDERS["wan_i2v"]()
    with disabled_in_the_end(pipe, "cache-dit: DBCache") as enable:
        enable()
        alignvid.attach(pipe, RECIPE, steps=WINDOW, branch="cond")
        computed = counts(calls_of(pipe, call))
    assert computed[0::2] == [6, 2, 6, 2, 6, 2]
    assert computed[1::2] == [6, 2, 2, 2, 2, 2]


def test_a_late_window_never_gives_silently_what_the_cache_alone_gives():
    """Blocks that the cache skips are the only ones that a gain acts on, and no step of the window is computed."""
    outputs = []
    for is_attached in (False, True):
        pipe, call = BUILDERS["wan_i2v"]()
        with disabled_in_the_end(pipe, "cache-dit: DBCache") as enable:
            enable()
            if is_attached:
                alignvid.attach(pipe, RECIPE, steps=StepWindow.fraction(0.7, 1.0), blocks=BlockSet.of("1,2"))
            outputs.append(generate(pipe, call, num_inference_steps=STEPS))
    assert (outputs[0] - outputs[1]).abs().max() > 1e-3


@pytest.mark.parametrize("variant", ["cache-dit: DBCache", "cache-dit: TaylorSeer", "cache-dit: SCM"])
@pytest.mark.contract(
    "caches",
    done="detaching in the middle of a cached run",
    guaranteed="what was computed with a gain is forgotten",
)
def test_detaching_in_the_middle_of_a_run_forgets_what_was_computed_with_a_gain(variant):
    uncached, call = BUILDERS["wan_i2v"]()
    pipe, _ = BUILDERS["wan_i2v"]()
    with disabled_in_the_end(pipe, variant) as enable:
        enable()
        attachment = alignvid.attach(pipe, RECIPE, steps=StepWindow.all())

        def detach_after_the_second_step(_: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
            if step == 1:
                attachment.detach()
            return kwargs

        calls = calls_of(pipe, {**call, "callback_on_step_end": detach_after_the_second_step})
    after = [run for run in calls if run.step == 2]
    assert len(after) == 2
    for run in after:
        with torch.no_grad():
            assert (run.output - uncached.transformer(**run.arguments)[0]).abs().max() <= TOLERANCE
    assert counts(calls)[6:] == [2] * 6


@pytest.mark.parametrize("variant", ["cache-dit: DBCache", "cache-dit: SCM"])
def test_after_detaching_the_cache_is_as_it_was(variant):
    """Not for the transformer alone: cache-dit itself hands the last step of one run on to the first of the next."""
    pipe, call = BUILDERS["wan_i2v"]()
    plain = generate(pipe, call, num_inference_steps=STEPS)
    with disabled_in_the_end(pipe, variant) as enable:
        enable()
        cached = generate(pipe, call, num_inference_steps=STEPS)
        with alignvid.attach(pipe, RECIPE, steps=WINDOW):
            assert not torch.equal(generate(pipe, call, num_inference_steps=STEPS), cached)
        assert torch.equal(generate(pipe, call, num_inference_steps=STEPS), cached)
    assert torch.equal(generate(pipe, call, num_inference_steps=STEPS), plain)


def test_disabling_the_cache_under_an_attachment_leaves_the_gain_alone():
    pipe, call = BUILDERS["wan_i2v"]()
    with alignvid.attach(pipe, RECIPE, steps=WINDOW):
        expected = generate(pipe, call, num_inference_steps=STEPS)
        with disabled_in_the_end(pipe, "cache-dit: DBCache") as enable:
            enable()
            generate(pipe, call, num_inference_steps=STEPS)
        assert torch.equal(generate(pipe, call, num_inference_steps=STEPS), expected)


def test_a_computation_mask_that_several_pipelines_share_is_not_changed():
    pipe, call = BUILDERS["wan_i2v"]()
    mask = [1] + [0] * (STEPS - 1)
    config = DBCacheConfig(**FIRST_BLOCK, steps_computation_mask=mask, steps_computation_policy="static")
    alignvid.attach(pipe, RECIPE, steps=WINDOW)
    try:
        cache_dit.enable_cache(pipe, cache_config=config)
        assert counts(calls_of(pipe, call)) == [6, 6, 2, 2] * 3
        made = [kwargs["cache_config"] for kwargs in [pipe.transformer._context_kwargs, pipe._context_kwargs]]
    finally:
        cache_dit.disable_cache(pipe)
    assert all(found.steps_computation_mask == [1, 0, 0, 0, 0, 0] for found in [config, *made])
