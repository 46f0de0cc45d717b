"""para-attn's first-block cache at a window's edge. `make test-para-attn` installs it and runs this.

Its adapters of Wan and CogVideoX run with diffusers 0.42; those of Flux and HunyuanVideo raise errors of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from diffusers import DiffusionPipeline

import alignvid
from alignvid import StepWindow
from cached_runs import EDGES, TOLERANCE, WINDOW, calls_of, computed_at, counts, in_order, off_at_the_edges
from five import BUILDERS, RECIPE

adapters = pytest.importorskip("para_attn.first_block_cache.diffusers_adapters", reason="make test-para-attn")

VARIANTS: dict[str, dict[str, Any]] = {"para-attn": {}, "para-attn: TaylorSeer": {"enable_taylorseer": True}}
RUNS = [(name, variant) for name in ("wan_i2v", "cogvideox_i2v") for variant in VARIANTS]
ORDERS = pytest.mark.parametrize("is_attached_first", [True, False], ids=["attached first", "cache first"])


@contextmanager
def undone_in_the_end(pipe: DiffusionPipeline, variant: str) -> Iterator[Callable[[], Any]]:
    """What enables a variant. para-attn changes the pipeline's class and has no way back."""
    owner = type(pipe)
    call = owner.__call__
    try:
        yield lambda: adapters.apply_cache_on_pipe(pipe, residual_diff_threshold=1e9, **VARIANTS[variant])
    finally:
        owner.__call__ = call
        if "_is_cached" in vars(owner):
            del owner._is_cached


@pytest.mark.combines
@ORDERS
@pytest.mark.parametrize(("name", "combination"), RUNS)
def test_at_both_edges_the_transformer_computes_as_without_a_cache(
    name, combination, is_attached_first, record_property
):
    uncached, call = BUILDERS[name]()
    unattached, _ = BUILDERS[name]()
    pipe, _ = BUILDERS[name]()
    with undone_in_the_end(unattached, combination) as enable:
        enable()
        without = calls_of(unattached, call)
    with undone_in_the_end(pipe, combination) as enable:
        in_order(is_attached_first, lambda: alignvid.attach(pipe, RECIPE, steps=WINDOW), enable)
        attached = calls_of(pipe, call)
    for edge in EDGES:
        assert computed_at(without, edge) < computed_at(without, 0)  # else nothing is proved
        assert computed_at(attached, edge) == computed_at(attached, 0)
    assert off_at_the_edges(attached, uncached) <= TOLERANCE
    record_property("pipeline", type(pipe).__name__)


def test_modulating_one_branch_leaves_what_is_kept_of_the_other_alone():
    pipe, call = BUILDERS["wan_i2v"]()
    with undone_in_the_end(pipe, "para-attn") as enable:
        enable()
        alignvid.attach(pipe, RECIPE, steps=WINDOW, branch="cond")
        computed = counts(calls_of(pipe, call))
    assert computed[0::2] == [6, 2, 6, 2, 6, 2]
    assert computed[1::2] == [6, 2, 2, 2, 2, 2]


def test_detaching_in_the_middle_of_a_run_forgets_what_was_computed_with_a_gain():
    pipe, call = BUILDERS["wan_i2v"]()
    with undone_in_the_end(pipe, "para-attn") as enable:
        enable()
        attachment = alignvid.attach(pipe, RECIPE, steps=StepWindow.all())

        def detach_after_the_second_step(_: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
            if step == 1:
                attachment.detach()
            return kwargs

        computed = counts(calls_of(pipe, {**call, "callback_on_step_end": detach_after_the_second_step}))
    assert computed == [6, 6, 2, 2, 6, 6, 2, 2, 2, 2, 2, 2]
