"""State belongs to the call: threads, direct calls, checkpoints, sizes in graphs; counts are made where keys pass."""

from __future__ import annotations

import inspect
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import alignvid
from alignvid import BlockSet, Recipe, Scalar, StepWindow
from alignvid.attachment.call import running
from alignvid.errors import AttachmentError
from compiling import CountedGraphs, compile_regions
from pipelines import generate
from registry import BUILDERS

FAMILIES = ("wan_i2v", "framepack_v1", "sd3", "z_image", "qwen_image", "cogvideox_i2v")
EARLY = StepWindow.noise_above(0.6)


def recipe(name: str = "") -> Recipe:
    """Everything is scaled in the first of four steps, and nothing in the last."""
    early = StepWindow.noise_above(0.9) if name == "framepack_v1" else EARLY
    return Recipe(Scalar(3.0, {"*.*": 1.0}), BlockSet.of("all"), early)


class Recorded:
    """The arguments of every forward of a tiny pipeline's own run, and what came out."""

    def __init__(self, name: str, steps: int = 4) -> None:
        self.pipe, call = BUILDERS[name]()
        self.arguments: list[dict[str, Any]] = []
        handle = self.pipe.transformer.register_forward_pre_hook(self._note, with_kwargs=True)
        generate(self.pipe, call, num_inference_steps=steps)
        handle.remove()

    def _note(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = inspect.signature(type(module).forward).bind_partial(module, *args, **kwargs).arguments
        self.arguments.append(
            {**{name: value for name, value in bound.items() if name != "self"}, "return_dict": False}
        )

    @property
    def transformer(self) -> nn.Module:
        return self.pipe.transformer


def first(output: Any) -> Tensor:
    sample = output[0]
    return torch.stack(list(sample)) if isinstance(sample, list) else sample


@pytest.fixture(scope="module")
def recorded() -> Any:
    kept: dict[str, Recorded] = {}
    return lambda name: kept.setdefault(name, Recorded(name))


def outputs(transformer: nn.Module, calls: list[dict[str, Any]]) -> list[Tensor]:
    return [first(transformer(**call)) for call in calls]


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.contract(
    "state",
    done="two threads run one transformer at once, one inside the window and one outside",
    guaranteed="each is as alone",
)
def test_two_threads_on_one_transformer_are_each_as_alone(recorded, name):
    made = recorded(name)
    early, late = made.arguments[0], made.arguments[-1]
    with alignvid.attach(made.transformer, recipe(name)) as attachment:
        alone = outputs(made.transformer, [early, late])
        together = threading.Barrier(2)

        def run(call: dict[str, Any]) -> list[Tensor]:
            together.wait(timeout=60)
            return [first(made.transformer(**call)) for _ in range(6)]

        with ThreadPoolExecutor(2) as threads, torch.no_grad():
            results = list(threads.map(torch.no_grad()(run), [early, late]))
    assert all(
        (got - expected).abs().max() <= 1e-5 for got, expected in zip(results, alone, strict=True) for got in got
    )
    assert attachment.active_forward_count == 7 and attachment.forward_count == 14


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.contract(
    "state",
    done="`transformer.forward(…)` is called directly",
    guaranteed="as the call",
)
def test_a_forward_that_is_called_directly_acts_as_the_call(recorded, name):
    made = recorded(name)
    calls = [made.arguments[0], made.arguments[-1], made.arguments[0]]
    with alignvid.attach(made.transformer, recipe(name)):
        expected = outputs(made.transformer, calls)
        direct = [first(made.transformer.forward(**call)) for call in calls]
    assert all(torch.equal(got, wanted) for got, wanted in zip(direct, expected, strict=True))


@torch.no_grad()
@pytest.mark.contract(
    "state",
    done="a block is called outside of a forward of the transformer",
    refused="an error: step and pass are not known",
)
def test_a_block_that_is_called_outside_of_a_forward_is_refused(recorded):
    transformer = recorded("wan_i2v").transformer
    inputs: list[Any] = []
    handle = transformer.blocks[0].register_forward_pre_hook(lambda _, args: inputs.append(args))
    transformer(**recorded("wan_i2v").arguments[0])
    handle.remove()
    with alignvid.attach(transformer, recipe()):
        with pytest.raises(AttachmentError, match="outside of a forward of the transformer"):
            transformer.blocks[0](*inputs[0])
        transformer(**recorded("wan_i2v").arguments[0])
    transformer.blocks[0](*inputs[0])  # after detaching it is anybody's again


@pytest.mark.parametrize("name", ["wan_i2v", "framepack_v1", "sd3", "qwen_image", "cogvideox_i2v", "z_image"])
@pytest.mark.contract(
    "state",
    done="a backward through two forwards with an edge between them, with gradient checkpointing",
    guaranteed="the gradient without checkpointing; what is recomputed is not counted",
)
def test_a_backward_through_two_forwards_with_an_edge_between_them_recomputes_each_as_it_was(recorded, name):
    made = recorded(name)
    transformer = made.transformer.train()
    calls = [made.arguments[0], made.arguments[-1]]

    def gradient() -> Tensor:
        transformer.zero_grad()
        sum(first(transformer(**call)).square().sum() for call in calls).backward()
        return torch.cat([weight.grad.flatten() for weight in transformer.parameters() if weight.grad is not None])

    with alignvid.attach(transformer, recipe(name)) as attachment:
        expected = gradient()
        transformer.enable_gradient_checkpointing()
        before = attachment.acted_count
        got = gradient()
        counted = attachment.acted_count - before
    transformer.disable_gradient_checkpointing()
    transformer.eval()
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))
    assert counted == attachment.site_count  # what is recomputed is not counted again
    assert running() is None


@torch.no_grad()
@pytest.mark.contract(
    "state",
    done="a forward fails in the middle",
    guaranteed="the next one is as if it had not been",
)
def test_nothing_of_a_forward_is_left_after_an_error_in_it(recorded):
    transformer, call = recorded("wan_i2v").transformer, recorded("wan_i2v").arguments[0]
    with alignvid.attach(transformer, recipe()):
        expected = first(transformer(**call))
        with pytest.raises((RuntimeError, ValueError)):
            transformer(**{**call, "encoder_hidden_states": torch.randn(1, 512, 7)})
        assert running() is None
        assert torch.equal(first(transformer(**call)), expected)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.usefixtures("unchecked_types", "fresh_dynamo")
@pytest.mark.contract(
    "graphs",
    done="texts of growing length with `torch.compile(dynamic=True)`, several streams in one norm",
    guaranteed="two graphs more than unattached at most",
)
def test_growing_texts_make_no_graph_for_each_length():
    made = Recorded("flux")
    lengths = (5, 6, 7, 9, 11)

    def graphs_of(transformer: nn.Module, attach: bool) -> int:
        graphs = CountedGraphs()
        torch._dynamo.reset()
        for block in [*transformer.transformer_blocks, *transformer.single_transformer_blocks]:
            block.compile(fullgraph=True, dynamic=True, backend=graphs)
        attached = (
            alignvid.attach(transformer, Recipe(Scalar(2.0, {"*.text": 1.0}), BlockSet.of("all"), EARLY))
            if attach
            else None
        )
        for length in lengths:
            for timestep in (made.arguments[0]["timestep"], made.arguments[-1]["timestep"]):
                size = made.arguments[0]["encoder_hidden_states"].shape[-1]
                text = {"encoder_hidden_states": torch.randn(1, length, size), "txt_ids": torch.zeros(length, 3)}
                transformer(**{**made.arguments[0], **text, "timestep": timestep})
        if attached is not None:
            attached.detach()
        return graphs.count

    plain = graphs_of(made.transformer, attach=False)
    attached = graphs_of(BUILDERS["flux"]()[0].transformer, attach=True)
    assert attached <= plain + 2


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.contract(
    "acted",
    done="the transformer's forward is replaced by another, as by an exported one",
    refused="a warning in that run, with the likely reasons; `acted 0 times`",
)
def test_a_forward_that_was_replaced_by_another_is_warned_of(recorded, name):
    made = recorded(name)
    transformer, call = made.transformer, made.arguments[0]
    fixed = transformer(**call)
    with alignvid.attach(transformer, recipe(name)) as attachment:
        transformer.forward = lambda *args, **kwargs: fixed
        with pytest.warns(UserWarning, match="multiplied nothing, for none of the"):
            transformer(**call)
        with warnings.catch_warnings(action="error"):
            transformer(**call)  # said once
        del transformer.forward
        assert attachment.acted_count == 0 and attachment.active_forward_count == 2


@torch.no_grad()
@pytest.mark.contract(
    "acted",
    done="blocks are left out of a forward",
    guaranteed="they do not count as acted",
)
def test_blocks_that_are_left_out_do_not_count(recorded):
    made = recorded("wan_i2v")
    transformer, call = made.transformer, made.arguments[0]
    with alignvid.attach(transformer, recipe()) as attachment:
        transformer(**call)
        whole = attachment.acted_count
        transformer.blocks[0].forward = lambda hidden_states, *args, **kwargs: hidden_states
        transformer(**call)
        del transformer.blocks[0].forward
    assert whole == attachment.site_count
    assert attachment.acted_count == whole + whole - whole // len(transformer.blocks)


@torch.no_grad()
@pytest.mark.usefixtures("unchecked_types", "fresh_dynamo")
@pytest.mark.parametrize("name", ["wan_i2v", "qwen_image"])
@pytest.mark.contract(
    "acted",
    done="blocks are compiled",
    guaranteed="a forward in which a graph met the gain counts as all of its attentions, at no further graph",
)
def test_a_compiled_forward_counts_as_all_of_its_sites_where_the_gain_was_met(name):
    made = Recorded(name)
    with alignvid.attach(made.transformer, recipe(name)) as attachment:
        compile_regions(made.pipe, backend=CountedGraphs())
        outputs(made.transformer, [made.arguments[0], made.arguments[-1]])
    assert (attachment.acted_count, attachment.active_forward_count) == (attachment.site_count, 1)


@torch.no_grad()
@pytest.mark.parametrize("way", ["__call__", "forward"])
def test_a_forward_within_a_forward_is_another_one_and_leaves_the_outer_as_it_was(recorded, way):
    run = recorded("wan_i2v")
    transformer, acts, acts_not = run.transformer, run.arguments[0], run.arguments[-1]
    plain, inner = first(transformer(**acts_not)), []

    def run_within(*_: Any) -> None:
        hook.remove()
        inner.append(first(getattr(transformer, way)(**acts_not)))

    with alignvid.attach(transformer, recipe()) as attachment:
        alone = first(getattr(transformer, way)(**acts))
        before = attachment.forward_count
        hook = transformer.blocks[1].register_forward_pre_hook(run_within)
        outer = first(getattr(transformer, way)(**acts))
        assert running() is None
    assert attachment.forward_count == before + 2
    assert torch.equal(outer, alone) and torch.equal(inner[0], plain)
