"""The hook at the attention call: in and out without a trace, silent where nothing acts, refused where it cannot be."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest
import torch
from diffusers.models.transformers import transformer_hunyuan_video, transformer_wan
from torch.utils._python_dispatch import TorchDispatchMode

import alignvid
import pipelines
from alignvid.attachment.effects.dispatch import dispatching_module
from alignvid.blocks import BlockSet
from alignvid.errors import AttachmentError, UnknownTarget
from alignvid.modulation import ConflictAware, Energy, Scalar
from alignvid.recipe import Recipe
from alignvid.schedule import StepWindow
from attention_calls import calls_of
from compiling import graphs_as_eager
from pipelines import generate
from registry import BUILDERS

ALL = (BlockSet.of("all"), StepWindow.all())
CONFLICT = Recipe(ConflictAware(), *ALL)
ROTATED = Recipe(Energy(is_rotated=True, centre=0.5, powers={"*.text": 1.0, "*.image": -1.0}), *ALL)


def framepack_inputs(timestep: float, batch: int = 1) -> dict[str, Any]:
    seen: list[dict[str, Any]] = []
    pipe, call = pipelines.framepack_v1()
    hook = pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True
    )
    generate(pipe, call)
    hook.remove()
    return seen[0] | {"timestep": torch.full_like(seen[0]["timestep"], timestep), "return_dict": False}


@pytest.mark.parametrize("recipe", [CONFLICT, ROTATED], ids=["conflict", "energy"])
def test_detach_restores_the_dispatch_the_classes_and_the_output(recipe):
    pipe, call = pipelines.framepack_v1()
    plain, own = generate(pipe, call), transformer_hunyuan_video.dispatch_attention_fn
    classes = [type(module) for module in pipe.transformer.modules()]
    attributes = [set(vars(module)) for module in pipe.transformer.modules()]
    with alignvid.attach(pipe, recipe):
        assert transformer_hunyuan_video.dispatch_attention_fn is not own
        assert not torch.equal(generate(pipe, call), plain)
    assert transformer_hunyuan_video.dispatch_attention_fn is own
    assert [type(module) for module in pipe.transformer.modules()] == classes
    assert [set(vars(module)) for module in pipe.transformer.modules()] == attributes
    assert torch.equal(generate(pipe, call), plain)


def test_of_two_models_the_first_that_is_detached_leaves_the_others_dispatch():
    (one, call), (other, _) = pipelines.framepack_v1(), pipelines.framepack_v1()
    own, plain = transformer_hunyuan_video.dispatch_attention_fn, generate(one, call)
    first, second = alignvid.attach(one, CONFLICT), alignvid.attach(other, CONFLICT)
    first.detach()
    assert torch.equal(generate(one, call), plain) and not torch.equal(generate(other, call), plain)
    second.detach()
    assert transformer_hunyuan_video.dispatch_attention_fn is own


def test_a_model_that_is_not_attached_to_runs_untouched_beside_one_that_is():
    (one, call), (other, _) = pipelines.framepack_v1(), pipelines.framepack_v1()
    plain = generate(other, call)
    with alignvid.attach(one, CONFLICT):
        assert torch.equal(generate(other, call), plain)


def test_another_tools_dispatch_over_ours_stays_when_ours_goes(monkeypatch):
    pipe, call = pipelines.framepack_v1()
    plain, attachment = generate(pipe, call), alignvid.attach(pipe, CONFLICT)
    ours = transformer_hunyuan_video.dispatch_attention_fn

    def theirs(*args: Any, **kwargs: Any) -> Any:
        return ours(*args, **kwargs)

    monkeypatch.setattr(transformer_hunyuan_video, "dispatch_attention_fn", theirs)
    attachment.detach()
    assert transformer_hunyuan_video.dispatch_attention_fn is theirs
    assert torch.equal(generate(pipe, call), plain)


class CountedOperations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))


@torch.no_grad()
@pytest.mark.parametrize("recipe", [CONFLICT, ROTATED], ids=["conflict", "energy"])
def test_an_inactive_step_costs_no_operation_beyond_those_of_a_gate(recipe):
    transformer, inputs = pipelines.framepack_v1()[0].transformer, framepack_inputs(100.0)
    by_norms = Recipe(Scalar(1.35, {"*.text": 1.0, "*.image": 1.0}), *ALL)  # what a gate that reads the step does
    with alignvid.attach(transformer, by_norms.override(steps=StepWindow.noise_above(0.9))):
        transformer(**inputs)  # what is made once for all forwards, is made
        with CountedOperations() as plain:
            transformer(**inputs)
    with alignvid.attach(transformer, recipe.override(steps=StepWindow.noise_above(0.9))):
        transformer(**inputs)
        with CountedOperations() as off:
            transformer(**inputs)
        with CountedOperations() as on:
            transformer(**inputs | {"timestep": torch.full_like(inputs["timestep"], 990.0)})
    assert off.count == plain.count < on.count


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.usefixtures("unchecked_types", "fresh_dynamo")
@pytest.mark.parametrize(
    "recipe", [pytest.param(CONFLICT, marks=pytest.mark.slow), ROTATED], ids=["conflict", "energy"]
)
def test_compiled_is_eager_in_two_graphs_a_block_without_a_break(recipe):
    transformer = pipelines.hunyuan_i2v_token_replace()[0].transformer
    torch.manual_seed(1)
    early = {
        "hidden_states": torch.randn(1, 4, 3, 2, 4),
        "timestep": torch.full((1,), 990.0),
        "encoder_hidden_states": torch.randn(1, 24, 16),
        "encoder_attention_mask": (torch.arange(24) < 18).float().expand(1, -1),
        "pooled_projections": torch.randn(1, 8),
        "guidance": torch.full((1,), 4500.0),
        "return_dict": False,
    }
    late = early | {"timestep": torch.full((1,), 100.0)}
    recipe = recipe.override(steps=StepWindow.noise_above(0.9))
    assert graphs_as_eager(transformer, recipe, [early, late, early]) == 2


@torch.no_grad()
def test_two_threads_may_run_one_model_one_in_the_window_and_one_not():
    transformer = pipelines.framepack_v1()[0].transformer
    runs = {level: framepack_inputs(level) for level in (990.0, 100.0)}
    with alignvid.attach(transformer, CONFLICT.override(steps=StepWindow.noise_above(0.9))):
        expected = {level: transformer(**inputs)[0] for level, inputs in runs.items()}
        got: dict[float, list[Any]] = {level: [] for level in runs}

        @torch.no_grad()
        def run(level: float) -> None:
            got[level] += [transformer(**runs[level])[0] for _ in range(4)]

        threads = [threading.Thread(target=run, args=(level,)) for level in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for level, outputs in got.items():
        assert len(outputs) == 4 and all(torch.equal(output, expected[level]) for output in outputs)


def test_a_processor_that_leaves_the_dispatch_later_is_an_error_and_not_silence():
    pipe, call = pipelines.framepack_v1()

    class Dense:
        """Attends by torch alone."""

        def __call__(self, attn: Any, hidden_states: Any, encoder_hidden_states: Any = None, **_: Any) -> Any:
            return hidden_states, encoder_hidden_states

    with alignvid.attach(pipe, CONFLICT), pytest.warns(UserWarning, match="Dense of .*, which is not diffusers'"):
        pipe.transformer.single_transformer_blocks[0].attn.processor = Dense()
        with pytest.raises(AttachmentError, match="did not call diffusers' dispatch_attention_fn"):
            generate(pipe, call)


@pytest.mark.parametrize("name", ["cogvideox_t2v", "sd3", "omnigen", "allegro"])
def test_an_attention_that_calls_a_kernel_by_itself_is_refused_with_the_remedy(name):
    pipe, _ = BUILDERS[name]()
    targets = {"cogvideox_t2v": "single.text", "sd3": "double.text", "omnigen": "single.text", "allegro": "self.video"}
    recipe = Recipe(Energy(is_rotated=True, powers={targets[name]: 1.0}), *ALL)
    with pytest.raises(UnknownTarget, match=r"calls a kernel by itself .* Use a scalar or log-bias"):
        alignvid.attach(pipe, recipe)


def test_an_attention_of_several_softmaxes_is_refused():
    recipe = Recipe(Energy(is_rotated=True, powers={"cross.text": 1.0}), *ALL)
    with pytest.raises(UnknownTarget, match="'cross' has a softmax for each of its key norms"):
        alignvid.attach(pipelines.wan_i2v()[0], recipe)


def test_the_module_whose_dispatch_a_processor_calls_is_found():
    pipe, _ = pipelines.wan_i2v()
    assert dispatching_module(pipe.transformer.blocks[0].attn1) is transformer_wan
    assert dispatching_module(BUILDERS["cogvideox_t2v"]()[0].transformer.transformer_blocks[0].attn1) is None


def test_it_acts_on_what_a_gain_on_the_norm_has_made():
    pipe, call = pipelines.framepack_v1()
    stack = BlockSet.of({"single_transformer_blocks": [0]})
    gain = Recipe(Scalar(1.5, {"single.text": 1.0}), stack, StepWindow.all())
    energy = Recipe(Energy(is_rotated=True, powers={"single.image": 1.0}), stack, StepWindow.all())
    with alignvid.attach(pipe, Recipe(gain.modulation, stack, StepWindow.all(), then=(energy,))) as attachment:
        asked = calls_of(pipe, call)["single_transformer_blocks.0.attn"]
    assert attachment.gains == {"single.text": 1.5, "single.image": 1.35}
    mean = asked.query.mean(1), asked.key.mean(1)  # of keys that the gain has scaled: it lies before the call
    level = (mean[0] * mean[1]).sum(-1) / math.sqrt(asked.query.shape[-1])
    factor = 1.0 + 0.35 * torch.sigmoid(-level)
    keys = asked.key.clone()
    keys[:, 42:58] *= factor[:, None, :, None]
    assert torch.allclose(asked.output, asked.attended(asked.softmax(key=keys)), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "path", "target", "keys"),
    [
        ("wan_i2v", "blocks.0.attn1", "self.video", slice(None)),
        ("hunyuan_i2v_token_replace", "transformer_blocks.0.attn", "double.image", slice(0, 8)),
        ("framepack_v1", "transformer_blocks.0.attn", "double.image", slice(42, 58)),
    ],
    ids=["self", "joint with padding", "joint"],
)
def test_the_energy_after_rotation_is_the_mean_of_the_dense_logits(name, path, target, keys):
    pipe, call = BUILDERS[name]()
    plain = calls_of(pipe, call)[path]
    blocks = BlockSet.of({path.partition(".")[0]: [0]})
    recipe = Recipe(Energy(is_rotated=True, powers={target: 2.0}), blocks, StepWindow.all())
    with alignvid.attach(pipe, recipe):
        acted = calls_of(pipe, call)[path]
    logits = torch.einsum("bqhd,bkhd->bhqk", plain.query, plain.key) * plain.scale
    seen = torch.ones(plain.key.shape[:2], dtype=torch.bool) if plain.mask is None else plain.mask[:, 0, 0].bool()
    means = [sample[:, where][..., where].mean((1, 2)) for sample, where in zip(logits, seen, strict=True)]
    factor = (1.0 + 0.35 * torch.sigmoid(-torch.stack(means))) ** 2
    scaled = plain.key.clone()
    scaled[:, keys] *= factor[:, None, :, None]
    expected = plain.attended(plain.softmax(key=scaled))
    assert torch.allclose(acted.output, expected, atol=1e-5)
    assert not torch.allclose(acted.output, plain.output, atol=1e-4)
