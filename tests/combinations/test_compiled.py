"""torch.compile on the five pipelines: as eager, and no graph is added at an edge of the window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, FirstBlockCacheConfig, TaylorSeerCacheConfig
from torch import Tensor

import alignvid
from alignvid import StepWindow
from compiling import CountedGraphs, compile_in_place, compile_regions
from five import BUILDERS, FIVE, RECIPE
from offloading import as_a_whole, in_groups_of_blocks, in_groups_of_leaves, sequentially
from pipelines import generate

STEPS = 8
WINDOW = StepWindow.fraction(0.25, 0.5)  # steps 2 and 3: the first compiled step is outside, and so is the last
TOLERANCE = 1e-5  # as asked; the counting backend runs the same kernels in the same order
GENERATED = 5e-5  # inductor fuses kernels: float32 sums in another order, through every block and step

pytestmark = pytest.mark.usefixtures("unchecked_types", "fresh_dynamo")

COMPILED: dict[str, Callable[..., None]] = {
    "torch.compile, regional": compile_regions,
    "torch.compile, whole": compile_in_place,
}
ALWAYS = [("flux_kontext", "torch.compile, regional"), ("cogvideox_i2v", "torch.compile, regional")]
"""The others are slow; test_compile.py compiles Wan and FramePack every time."""
RUNS = [
    pytest.param(name, combination, marks=() if (name, combination) in ALWAYS else pytest.mark.slow)
    for name in FIVE
    for combination in COMPILED
]


@pytest.mark.slow
@pytest.mark.combines
@pytest.mark.parametrize("is_attached_first", [True, False], ids=["attached first", "compiled first"])
@pytest.mark.parametrize(("name", "combination"), RUNS)
def test_every_graph_is_made_in_the_first_step_and_computes_what_eager_does(
    name, combination, is_attached_first, record_property
):
    pipe, call = BUILDERS[name]()
    call = call | {"num_inference_steps": STEPS}
    plain = generate(pipe, call)
    with alignvid.attach(pipe, RECIPE, steps=WINDOW):
        expected = generate(pipe, call)
    graphs = CountedGraphs()
    steps = [
        lambda: alignvid.attach(pipe, RECIPE, steps=WINDOW),
        lambda: COMPILED[combination](pipe, backend=graphs),
    ]
    for step in steps if is_attached_first else reversed(steps):
        step()
    actual, counts = counted(pipe, call, graphs)
    alignvid.detach(pipe)
    detached = generate(pipe, call)
    assert largest(actual, expected) <= TOLERANCE
    assert largest(detached, plain) <= TOLERANCE
    assert largest(expected, plain) > 10 * TOLERANCE
    assert counts == [counts[0]] * STEPS
    assert counts[0] >= 1
    assert not torch._dynamo.utils.counters["graph_break"]
    record_property("pipeline", type(pipe).__name__)


@pytest.mark.slow
@pytest.mark.combines
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # torch says it to itself
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex")  # Qwen's rotary one
@pytest.mark.parametrize("combination", ["torch.compile, reduce-overhead"])
@pytest.mark.parametrize("name", FIVE)
def test_generated_code_computes_what_eager_does(name, combination, record_property):
    """Inductor takes this mode on a CPU, too; what it is for, CUDA graphs, is left out there."""
    pipe, call = BUILDERS[name]()
    call = call | {"num_inference_steps": 4}
    plain = generate(pipe, call)
    with alignvid.attach(pipe, RECIPE, steps=WINDOW):
        expected = generate(pipe, call)
    compile_regions(pipe, mode="reduce-overhead")
    with alignvid.attach(pipe, RECIPE, steps=WINDOW):
        actual = generate(pipe, call)
    assert largest(actual, expected) <= GENERATED
    assert largest(expected, plain) > 10 * GENERATED
    record_property("pipeline", type(pipe).__name__)


CACHES: dict[str, Any] = {
    "torch.compile and FirstBlockCache": FirstBlockCacheConfig(threshold=1e9),
    "torch.compile and TaylorSeer": TaylorSeerCacheConfig(
        cache_interval=STEPS,
        disable_cache_before_step=2,
        taylor_factors_dtype=torch.float32,
        cache_identifiers=[r"blocks\.\d+\.attn\d"],
    ),
}
MOST_GRAPHS = {"torch.compile and FirstBlockCache": 10, "torch.compile and TaylorSeer": 9}
"""Unattached 8 and 9: a first block that computes whole after it has skipped is new to dynamo at the first edge."""
OFFLOADS: dict[str, Callable[[DiffusionPipeline], None]] = {
    "torch.compile and group offload, leaves": in_groups_of_leaves,
    "torch.compile and group offload, blocks": in_groups_of_blocks,
    "torch.compile and sequential offload": sequentially,
    "torch.compile and model offload": as_a_whole,
}


@pytest.mark.slow
@pytest.mark.combines
@pytest.mark.parametrize("combination", CACHES)
@pytest.mark.parametrize("name", ["wan_i2v"])
def test_a_compiled_cache_forgets_at_the_edges_as_an_eager_one_does(name, combination):
    """The caches break the graphs themselves: a block is several graphs, and other ones where it is skipped."""
    pipe, call = BUILDERS[name]()
    call = call | {"num_inference_steps": STEPS}
    pipe.transformer.enable_cache(CACHES[combination])
    with alignvid.attach(pipe, RECIPE, steps=WINDOW):
        expected = generate(pipe, call)
    plain = generate(pipe, call)
    graphs = CountedGraphs()
    for block in pipe.transformer.blocks:
        block.compile(backend=graphs)
    with alignvid.attach(pipe, RECIPE, steps=WINDOW):
        actual, counts = counted(pipe, call, graphs)
    assert largest(actual, expected) <= TOLERANCE
    assert largest(expected, plain) > 10 * TOLERANCE
    assert 1 <= counts[-1] <= MOST_GRAPHS[combination]


@pytest.mark.combines
@pytest.mark.parametrize("is_attached_first", [True, False], ids=["attached first", "attached last"])
@pytest.mark.parametrize(
    "combination",
    [
        pytest.param(combination, marks=() if combination.endswith(("blocks", "model offload")) else pytest.mark.slow)
        for combination in OFFLOADS
    ],
)
@pytest.mark.parametrize("name", ["wan_i2v"])
def test_blocks_that_are_offloaded_and_compiled_have_all_graphs_after_the_first_step(
    name, combination, is_attached_first
):
    """Offloading breaks the graphs itself, but for a model as a whole."""
    pipe, call = BUILDERS[name]()
    call = call | {"num_inference_steps": STEPS}
    plain = generate(pipe, call)
    with alignvid.attach(pipe, RECIPE, steps=WINDOW):
        expected = generate(pipe, call)
    graphs = CountedGraphs()

    def offload_and_compile() -> None:
        OFFLOADS[combination](pipe)
        for block in pipe.transformer.blocks:
            block.compile(backend=graphs)

    steps = [lambda: alignvid.attach(pipe, RECIPE, steps=WINDOW), offload_and_compile]
    for step in steps if is_attached_first else reversed(steps):
        step()
    actual, counts = counted(pipe, call, graphs)
    assert largest(actual, expected) <= TOLERANCE
    assert largest(expected, plain) > 10 * TOLERANCE
    assert counts == [counts[0]] * STEPS
    assert counts[0] >= 1


def counted(pipe: DiffusionPipeline, call: dict[str, Any], graphs: CountedGraphs) -> tuple[Tensor, list[int]]:
    """What the pipeline makes, and how many graphs there are after each step."""
    counts: list[int] = []

    def note(_: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        counts.append(graphs.count)
        return kwargs

    return generate(pipe, call, callback_on_step_end=note), counts


def largest(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
