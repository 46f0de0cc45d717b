"""The rivals, and what acts at the attention call, compiled and with offloading: as eager, in at most two graphs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import alignvid
from alignvid import BlockSet, ConflictAware, Energy, Recipe, StepWindow
from alignvid.modulation import Alg, Dcag, DownUp, DyMoS, Grag, Nag, Painter, RefKV
from compiling import CountedGraphs, compile_in_place, compile_regions
from offloading import in_groups_of_leaves, sequentially
from pipelines import generate, hunyuan_i2v_token_replace, wan_i2v
from worded import give_encoders

KINDS: list[tuple[Any, Any]] = [
    (wan_i2v, DyMoS()),
    (wan_i2v, Painter(1.5)),
    (wan_i2v, DownUp()),
    (wan_i2v, Alg()),
    (wan_i2v, Nag("yes zq", scale=4.0)),
    (hunyuan_i2v_token_replace, Grag(0.8)),
    (hunyuan_i2v_token_replace, Dcag(0.8, 0.8)),
    (hunyuan_i2v_token_replace, RefKV(1.3)),
    (hunyuan_i2v_token_replace, ConflictAware()),
    (hunyuan_i2v_token_replace, Energy(is_rotated=True, powers={"*.text": 1.0})),
]
EACH = pytest.mark.parametrize(("builder", "kind"), KINDS, ids=[kind.kind for _, kind in KINDS])
pytestmark = pytest.mark.slow


def built(builder: Any) -> tuple[Any, dict[str, Any]]:
    pipe, call = builder()
    if builder is wan_i2v:
        give_encoders(pipe, call)
    return pipe, call | {"num_inference_steps": 4}


def recipe_of(kind: Any) -> Recipe:
    """Its window ends inside the run."""
    return Recipe(kind, BlockSet.of([0, 2]), StepWindow.fraction(0.0, 0.5))


@EACH
@pytest.mark.parametrize("compile_it", [compile_in_place, compile_regions], ids=lambda function: function.__name__)
@pytest.mark.usefixtures("unchecked_types", "fresh_dynamo")
def test_a_compiled_run_is_as_eager_in_two_graphs_of_each_block(builder, kind, compile_it):
    pipe, call = built(builder)
    plain = generate(pipe, call)
    with alignvid.attach(pipe, recipe_of(kind)):
        expected = generate(pipe, call)
    graphs = CountedGraphs()
    compile_it(pipe, backend=graphs)
    with alignvid.attach(pipe, recipe_of(kind)):
        got = generate(pipe, call)
    most = 2 if compile_it is compile_in_place else 4  # blocks with the effect, on and off; without; of both stacks
    assert 0 < graphs.count <= most + (builder is hunyuan_i2v_token_replace) * 2
    assert torch.allclose(got, expected, atol=1e-4) and not torch.allclose(expected, plain, atol=1e-4)


@EACH
@pytest.mark.parametrize("offload", [sequentially, in_groups_of_leaves], ids=lambda function: function.__name__)
@pytest.mark.parametrize("is_attached_first", [True, False], ids=["attached first", "offloaded first"])
def test_offloading_and_attaching_come_in_either_order(builder, kind, offload, is_attached_first):
    pipe, call = built(builder)
    plain = generate(pipe, call)
    with alignvid.attach(pipe, recipe_of(kind)):
        expected = generate(pipe, call)
    if not is_attached_first:
        offload(pipe)
    with alignvid.attach(pipe, recipe_of(kind)):
        if is_attached_first:
            offload(pipe)
        assert torch.equal(generate(pipe, call), expected)
    assert torch.equal(generate(pipe, call), plain)
