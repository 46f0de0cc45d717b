"""What tests of torch.compile share: a backend that counts graphs, and how users compile a transformer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

import alignvid
from alignvid import Recipe


class CountedGraphs:
    """A backend of torch.compile that runs each graph as it is and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        self.count += 1
        return graph.forward


def compile_repeated_blocks(pipe: DiffusionPipeline, **options: Any) -> None:
    for transformer in (pipe.transformer, getattr(pipe, "transformer_2", None)):
        if transformer is not None:
            transformer.compile_repeated_blocks(fullgraph=True, **options)


def compile_blocks_by_hand(pipe: DiffusionPipeline, **options: Any) -> None:
    """FramePack and CogVideoX name no repeated blocks, and HunyuanVideo not those of token replacement."""
    for stack in ("transformer_blocks", "single_transformer_blocks"):
        for block in getattr(pipe.transformer, stack, nn.ModuleList()):
            block.compile(fullgraph=True, **options)


def compile_regions(pipe: DiffusionPipeline, **options: Any) -> None:
    """As diffusers does where it names the class of the repeated blocks; by hand elsewhere."""
    repeated = bool(pipe.transformer._repeated_blocks)
    (compile_repeated_blocks if repeated else compile_blocks_by_hand)(pipe, **options)


def compile_in_place(pipe: DiffusionPipeline, **options: Any) -> None:
    pipe.transformer.compile(fullgraph=True, **options)


def wrap_in_compile(pipe: DiffusionPipeline, **options: Any) -> None:
    pipe.transformer = torch.compile(pipe.transformer, fullgraph=True, **options)


@torch.no_grad()
def graphs_as_eager(model: Any, recipe: Recipe, runs: Sequence[Mapping[str, Any]]) -> int:
    """How many graphs these inputs need in a compiled transformer with a recipe, whose outputs must be as in eager.

    Args:
        model: the transformer, or a pipeline of one.
        recipe: acts in the first of the runs, so that its output is not as without.
        runs: arguments of forwards, one after the other.
    """
    transformer, graphs = getattr(model, "transformer", model), CountedGraphs()
    plain = transformer(**runs[0])[0]
    with alignvid.attach(model, recipe):
        expected = [transformer(**inputs)[0] for inputs in runs]
    assert not torch.allclose(expected[0], plain, atol=1e-5)
    torch._dynamo.reset()
    with alignvid.attach(model, recipe):
        transformer.compile(backend=graphs, fullgraph=True)
        got = [transformer(**inputs)[0] for inputs in runs]
    for one, other in zip(got, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    return graphs.count
