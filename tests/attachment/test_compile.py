"""torch.compile: as eager, at most two graphs, none broken, no recompilation at a window's edges."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import alignvid
from alignvid import BlockSet, Recipe, Scalar, StepWindow
from compiling import (
    CountedGraphs,
    compile_blocks_by_hand,
    compile_in_place,
    compile_repeated_blocks,
    wrap_in_compile,
)
from pipelines import framepack_v1, generate, hunyuan_i2v_token_replace, hunyuan_t2v, wan22_i2v, wan_i2v, wan_t2v

TOLERANCE = 1e-5  # as asked; the eager backend runs the same kernels in the same order, inductor fuses them

pytestmark = pytest.mark.usefixtures("unchecked_types", "fresh_dynamo")  # dynamo cannot trace the checker


STEPS = 12
SUBSET = Recipe(
    Scalar(1.35, {"*.*": 1.0, "*.text": 2.0}),
    BlockSet.of([0, 2]),  # of three: blocks with and without a gain
    StepWindow.fraction(0.25, 0.5),  # both edges inside the run, and the first compiled step outside
)

CASES = {
    # pipeline, how it is compiled, most graphs
    "wan i2v, regional": (wan_i2v, compile_repeated_blocks, 2),
    "wan 2.2 with two transformers, regional": (wan22_i2v, compile_repeated_blocks, 2),
    "wan i2v, whole in place": (wan_i2v, compile_in_place, 1),
    "wan i2v, whole in a wrapper": (wan_i2v, wrap_in_compile, 1),
    "framepack, whole in place": (framepack_v1, compile_in_place, 1),
}


ORDERS = ("compiled, then attached", "attached, then compiled")
QUICK = {
    ("wan i2v, regional", ORDERS[0]),
    ("wan i2v, whole in place", ORDERS[1]),
    ("wan i2v, whole in a wrapper", ORDERS[0]),
}
RUNS = [
    pytest.param(case, order, marks=() if (case, order) in QUICK else pytest.mark.slow)
    for order in ORDERS
    for case in CASES
    if (CASES[case][1], order) != (wrap_in_compile, ORDERS[1])  # that one is below
]


@pytest.mark.parametrize(("case", "order"), RUNS)
def test_a_compiled_run_is_as_eager_with_few_graphs_and_no_break(case, order):
    builder, compile_it, most_graphs = CASES[case]
    pipe, call = builder()
    with alignvid.attach(pipe, SUBSET):
        expected = generate(pipe, call, num_inference_steps=STEPS)
    graphs = CountedGraphs()
    if order == "attached, then compiled":
        attachment = alignvid.attach(pipe, SUBSET)
        compile_it(pipe, backend=graphs)
    else:
        compile_it(pipe, backend=graphs)
        attachment = alignvid.attach(pipe, SUBSET)
    actual = generate(pipe, call, num_inference_steps=STEPS)
    assert (actual - expected).abs().max() <= TOLERANCE
    assert 1 <= graphs.count <= most_graphs
    assert not torch._dynamo.utils.counters["graph_break"]
    assert 0 < attachment.active_forward_count < attachment.forward_count


WRAPPED_AFTERWARDS = """
import torch
import test_compile as here

pipe, call = here.wan_t2v()
here.alignvid.attach(pipe, here.SUBSET)
expected = here.generate(pipe, call, num_inference_steps=here.STEPS)
graphs = here.CountedGraphs()
here.wrap_in_compile(pipe, backend=graphs)
actual = here.generate(pipe, call, num_inference_steps=here.STEPS)
assert (actual - expected).abs().max() <= here.TOLERANCE
assert graphs.count == 1
assert not torch._dynamo.utils.counters["graph_break"]
"""


@pytest.mark.slow
def test_a_wrapper_made_after_attaching_is_as_eager_with_one_graph():
    """In a fresh interpreter: the checker's frame lies around the one frame that must not be compiled."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "error", "-c", WRAPPED_AFTERWARDS]
    subprocess.run(command, check=True, cwd=Path(__file__).parent, env=environment)


@pytest.mark.parametrize(
    "compile_it",
    [
        pytest.param(compile_repeated_blocks, marks=pytest.mark.slow),
        compile_in_place,
        pytest.param(wrap_in_compile, marks=pytest.mark.slow),
    ],
)
def test_attaching_between_compiled_runs_costs_one_graph_and_detaching_none(compile_it):
    pipe, call = wan_i2v()
    plain = generate(pipe, call, num_inference_steps=STEPS)
    with alignvid.attach(pipe, SUBSET):
        expected = generate(pipe, call, num_inference_steps=STEPS)
    graphs = CountedGraphs()
    compile_it(pipe, backend=graphs)
    generate(pipe, call, num_inference_steps=STEPS)
    unattached_graphs = graphs.count
    with alignvid.attach(pipe, SUBSET):
        actual = generate(pipe, call, num_inference_steps=STEPS)
    detached = generate(pipe, call, num_inference_steps=STEPS)
    assert (actual - expected).abs().max() <= TOLERANCE
    assert (detached - plain).abs().max() <= TOLERANCE
    assert unattached_graphs == 1
    assert graphs.count == 2


@pytest.mark.slow
@pytest.mark.parametrize("builder", [hunyuan_t2v, hunyuan_i2v_token_replace], ids=lambda builder: builder.__name__)
def test_all_of_hunyuan_video_compiles_to_one_graph(builder):
    pipe, call = builder()
    with alignvid.attach(pipe, SUBSET):
        expected = generate(pipe, call, num_inference_steps=STEPS)
    graphs = CountedGraphs()
    compile_in_place(pipe, backend=graphs)
    alignvid.attach(pipe, SUBSET)
    assert (generate(pipe, call, num_inference_steps=STEPS) - expected).abs().max() <= TOLERANCE
    assert graphs.count == 1


@pytest.mark.slow
@pytest.mark.parametrize("builder", [hunyuan_t2v, framepack_v1], ids=lambda builder: builder.__name__)
def test_joint_blocks_compiled_one_by_one_need_one_graph_more_per_kind_of_block(builder):
    """Unattached they need more than one per kind already: the first and the later ones get inputs of other strides."""
    pipe, call = builder()
    with alignvid.attach(pipe, SUBSET):
        expected = generate(pipe, call, num_inference_steps=STEPS)
    unattached, attached = CountedGraphs(), CountedGraphs()
    compile_blocks_by_hand(pipe, backend=unattached)
    generate(pipe, call, num_inference_steps=1)
    torch._dynamo.reset()
    compile_blocks_by_hand(pipe, backend=attached)
    alignvid.attach(pipe, SUBSET)
    actual = generate(pipe, call, num_inference_steps=STEPS)
    assert (actual - expected).abs().max() <= TOLERANCE
    assert attached.count <= unattached.count + 2
    assert not torch._dynamo.utils.counters["graph_break"]


def test_another_gamma_on_a_compiled_model_costs_no_graph():
    pipe, call = wan_t2v()
    graphs = CountedGraphs()
    compile_repeated_blocks(pipe, backend=graphs)
    outputs = []
    for gamma in (1.35, 2.0, 1.0):
        with alignvid.attach(pipe, SUBSET, gamma=gamma):
            outputs.append(generate(pipe, call, num_inference_steps=4))
    assert graphs.count <= 2
    assert not torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[1], outputs[2])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # torch says it to itself
def test_inductor_computes_what_eager_does():
    pipe, call = wan_t2v()
    chosen = Recipe(Scalar(1.35, {"cross.text": 2.0}), BlockSet.of([0]), StepWindow.fraction(0.0, 0.5))
    with alignvid.attach(pipe, chosen):
        expected = generate(pipe, call, num_inference_steps=2)
    plain = generate(pipe, call, num_inference_steps=2)
    pipe.transformer.compile_repeated_blocks(fullgraph=True)
    with alignvid.attach(pipe, chosen):
        actual = generate(pipe, call, num_inference_steps=2)
    assert (actual - expected).abs().max() <= TOLERANCE
    assert (actual - plain).abs().max() > 10 * TOLERANCE


def test_batched_guidance_of_one_branch_costs_no_graph_at_the_edges():
    pipe, _ = wan_t2v()
    graphs = CountedGraphs()
    compile_repeated_blocks(pipe, backend=graphs)
    alignvid.attach(pipe.transformer, SUBSET, steps=StepWindow.noise(0.4, 0.6), branch="cond")
    latents, embeddings = torch.randn(2, 16, 3, 2, 4), torch.randn(2, 24, 32)
    for timestep in (900.0, 500.0, 100.0):
        with torch.no_grad(), pipe.transformer.cache_context("cond_uncond"):
            pipe.transformer(latents, torch.full((2,), timestep), embeddings)
    assert graphs.count <= 2
