"""Offloading and layerwise casting put a forward of their own on the norms; attaching before or after is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.hooks import FirstBlockCacheConfig
from torch import nn

import alignvid
from alignvid import BlockSet, ConflictAware, Energy, KeyBlur, LogBias, LowPass, Recipe, Scalar, StepWindow
from offloading import as_a_whole, in_groups_of_blocks, in_groups_of_leaves, sequentially
from pipelines import framepack_v1, generate, hunyuan_i2v_token_replace, wan_i2v

SUBSET = Recipe(Scalar(1.35, {"*.*": 1.0, "*.text": 2.0}), BlockSet.of([0, 2]), StepWindow.fraction(0.0, 0.5))
BUILDERS = [wan_i2v, hunyuan_i2v_token_replace, framepack_v1]


OFFLOADINGS: list[Callable[[DiffusionPipeline], None]] = [
    sequentially,
    as_a_whole,
    in_groups_of_leaves,
    in_groups_of_blocks,
]


def named(function: Any) -> str:
    return function.__name__


@pytest.fixture(params=BUILDERS, ids=named)
def built(request):
    return request.param()


@pytest.mark.parametrize("offload", OFFLOADINGS, ids=named)
@pytest.mark.parametrize("is_attached_first", [True, False], ids=["attached first", "offloaded first"])
def test_offloading_and_attaching_come_in_either_order(built, offload, is_attached_first):
    pipe, call = built
    plain = generate(pipe, call)
    with alignvid.attach(pipe, SUBSET):
        expected = generate(pipe, call)
    if is_attached_first:
        attachment = alignvid.attach(pipe, SUBSET)
        offload(pipe)
    else:
        offload(pipe)
        attachment = alignvid.attach(pipe, SUBSET)
    assert torch.equal(generate(pipe, call), expected)
    attachment.detach()
    assert torch.equal(generate(pipe, call), plain)
    with alignvid.attach(pipe, SUBSET):
        assert torch.equal(generate(pipe, call), expected)
    assert torch.equal(generate(pipe, call), plain)


KINDS = [
    (wan_i2v, Energy(powers={"*.*": 1.0})),
    (wan_i2v, ConflictAware()),
    (wan_i2v, KeyBlur()),
    (wan_i2v, LowPass()),
    (framepack_v1, LogBias()),
]


@pytest.mark.parametrize(("builder", "modulation"), KINDS, ids=[modulation.kind for _, modulation in KINDS])
@pytest.mark.parametrize("offload", [sequentially, in_groups_of_leaves], ids=named)
@pytest.mark.parametrize("is_attached_first", [True, False], ids=["attached first", "offloaded first"])
def test_other_kinds_of_modulation_do_not_mind_the_order_either(builder, modulation, offload, is_attached_first):
    pipe, call = builder()
    recipe = Recipe(modulation, BlockSet.of([0, 2]), StepWindow.fraction(0.0, 0.5))
    plain = generate(pipe, call)
    with alignvid.attach(pipe, recipe):
        expected = generate(pipe, call)
    steps = [lambda: alignvid.attach(pipe, recipe), lambda: offload(pipe)]
    for step in steps if is_attached_first else reversed(steps):
        step()
    assert torch.equal(generate(pipe, call), expected)
    alignvid.detach(pipe)
    assert torch.equal(generate(pipe, call), plain)


@pytest.mark.parametrize(
    "offload",
    [sequentially, in_groups_of_leaves, in_groups_of_blocks],
    ids=named,
)
def test_attaching_to_an_offloaded_model_leaves_no_trace_after_detaching(offload):
    pipe, call = wan_i2v()
    offload(pipe)
    generate(pipe, call)
    before = instance_attributes(pipe.transformer)
    with alignvid.attach(pipe, SUBSET):
        generate(pipe, call)
    assert instance_attributes(pipe.transformer) == before


def instance_attributes(transformer: nn.Module) -> list[tuple[type, set[str]]]:
    return [(type(module), set(vars(module))) for module in transformer.modules()]


@pytest.mark.parametrize("is_attached_first", [True, False], ids=["attached first", "cast first"])
def test_layerwise_casting_and_attaching_come_in_either_order(built, is_attached_first):
    pipe, call = built
    rounded = type(pipe.transformer).from_config(pipe.transformer.config).eval()
    cast = {"storage_dtype": torch.bfloat16, "compute_dtype": torch.float32}
    if is_attached_first:
        alignvid.attach(pipe, SUBSET)
        pipe.transformer.enable_layerwise_casting(**cast)
    else:
        pipe.transformer.enable_layerwise_casting(**cast)
        alignvid.attach(pipe, SUBSET)
    actual = generate(pipe, call)
    alignvid.detach(pipe)
    detached = generate(pipe, call)
    rounded.load_state_dict(pipe.transformer.state_dict())  # the weights as casting rounds them, in float32
    pipe.transformer = rounded
    assert torch.equal(detached, generate(pipe, call))
    with alignvid.attach(pipe, SUBSET):
        assert torch.equal(actual, generate(pipe, call))


def test_a_cache_of_the_first_block_and_attaching_come_in_either_order():
    pipe, call = wan_i2v()
    call["num_inference_steps"] = 6
    caching = FirstBlockCacheConfig(threshold=0.2)
    pipe.transformer.enable_cache(caching)
    plain = generate(pipe, call)
    with alignvid.attach(pipe, SUBSET):
        cached_first = generate(pipe, call)
    pipe.transformer.disable_cache()
    with alignvid.attach(pipe, SUBSET):
        pipe.transformer.enable_cache(caching)
        attached_first = generate(pipe, call)
    assert torch.equal(attached_first, cached_first)
    assert not torch.equal(attached_first, plain)
    assert torch.equal(generate(pipe, call), plain)
