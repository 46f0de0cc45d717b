"""Blurred keys and the low-passed reference on real pipelines."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import alignvid
import pipelines
from alignvid.attachment.effects.gaussian import blurred_pictures, blurred_tokens, gaussian_weights, reach
from alignvid.blocks import BlockSet
from alignvid.errors import ModulationError, UnknownTarget
from alignvid.models.family import Grid
from alignvid.modulation import KeyBlur, LowPass, Modulation, from_dict
from alignvid.recipe import Recipe
from alignvid.schedule import StepWindow
from compiling import graphs_as_eager
from pipelines import generate

SIGMA = 0.8
WEIGHTS = gaussian_weights(SIGMA, reach(SIGMA))
WITH_REFERENCE_CHANNELS = ["wan_i2v", "wan_flf2v", "wan22_i2v", "hunyuan_i2v_latent_concat"]


def everywhere(modulation: Modulation) -> Recipe:
    return Recipe(modulation, BlockSet.of("all"), StepWindow.all())


@pytest.mark.parametrize("name", ["wan_i2v", "wan22_ti2v_5b", "hunyuan_i2v_token_replace", "framepack_v1"])
def test_key_blur_of_nothing_is_bit_equal(name):
    pipe, call = pipelines.BUILDERS[name]()
    expected = generate(pipe, call)
    with alignvid.attach(pipe, everywhere(KeyBlur(0.0))) as attachment:
        assert torch.equal(generate(pipe, call), expected)
    assert attachment.acted_count > 0


@pytest.mark.parametrize("name", WITH_REFERENCE_CHANNELS)
def test_low_pass_of_nothing_is_bit_equal(name):
    pipe, call = pipelines.BUILDERS[name]()
    expected = generate(pipe, call)
    with alignvid.attach(pipe, everywhere(LowPass(0.0))) as attachment:
        assert torch.equal(generate(pipe, call), expected)
    assert attachment.acted_count == attachment.forward_count > 0


def first_output(pipe: Any, call: dict[str, Any], path: str) -> Tensor:
    """What a module of the transformer gives in the first forward of a run."""
    seen: list[Tensor] = []
    hook = pipe.transformer.get_submodule(path).register_forward_hook(
        lambda module, args, output: seen.append(output.detach().clone())
    )
    generate(pipe, call)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize(
    ("name", "target", "path", "start", "stop", "grid"),
    [
        ("wan_i2v", "cross.image", "blocks.0.attn2.norm_added_k", 0, 17, Grid(1, 4, 4)),
        ("wan_flf2v", "cross.image", "blocks.0.attn2.norm_added_k", 0, 34, Grid(1, 4, 4)),
        ("wan_i2v", "self.video", "blocks.0.attn1.norm_k", 0, 6, Grid(0, 1, 2)),
        ("wan22_ti2v_5b", "self.image", "blocks.0.attn1.norm_k", 0, 2, Grid(0, 1, 2)),
        ("hunyuan_i2v_token_replace", "double.video", "transformer_blocks.0.attn.norm_k", 8, 24, Grid(0, 2, 4)),
        ("framepack_v1", "single.video", "single_transformer_blocks.0.attn.norm_k", 18, 42, Grid(0, 2, 3)),
        ("framepack_v1", "double.image", "transformer_blocks.0.attn.norm_added_k", 0, 16, Grid(0, 4, 4)),
    ],
)
def test_the_keys_of_one_stream_are_blurred_over_its_grid(name, target, path, start, stop, grid):
    pipe, call = pipelines.BUILDERS[name]()
    plain = first_output(pipe, call, path)
    recipe = Recipe(KeyBlur(SIGMA, (target,)), BlockSet.of({path.split(".")[0]: [0]}), StepWindow.all())
    with alignvid.attach(pipe, recipe):
        blurred = first_output(pipe, call, path)
    expected = blurred_tokens(plain[:, start:stop].flatten(2), grid, WEIGHTS).view_as(plain[:, start:stop])
    assert torch.allclose(blurred[:, start:stop], expected, atol=1e-6)
    assert not torch.allclose(blurred[:, start:stop], plain[:, start:stop], atol=1e-3)
    assert torch.equal(blurred[:, :start], plain[:, :start]) and torch.equal(blurred[:, stop:], plain[:, stop:])


def wan_inputs(timestep: float, batch: int = 1) -> dict[str, Any]:
    torch.manual_seed(1)
    return {
        "hidden_states": torch.randn(batch, 36, 3, 4, 8),
        "timestep": torch.full((batch,), timestep),
        "encoder_hidden_states": torch.randn(batch, 512, 32),
        "encoder_hidden_states_image": torch.randn(batch, 17, 4),
        "return_dict": False,
    }


@torch.no_grad()
def test_low_pass_is_that_of_the_reference_channels_alone_and_falls_with_the_noise():
    transformer = pipelines.wan_i2v()[0].transformer
    for timestep in (1000.0, 500.0):
        inputs = wan_inputs(timestep)
        with alignvid.attach(transformer, everywhere(LowPass(2.0))):
            (passed,) = transformer(**inputs)
        weights = gaussian_weights(2.0 * timestep / 1000.0, reach(2.0))
        latents = inputs["hidden_states"].clone()
        for frame in range(3):  # noise 0-15, mask 16-19, reference 20-35
            latents[:, 20:, frame] = blurred_pictures(latents[:, 20:, frame], weights)
        (expected,) = transformer(**inputs | {"hidden_states": latents})
        assert torch.allclose(passed, expected, atol=1e-6)


@pytest.mark.parametrize("modulation", [KeyBlur(SIGMA), LowPass(2.0)], ids=lambda kind: kind.kind)
def test_only_chosen_steps_and_branch_are_changed_and_detach_restores(modulation):
    pipe, call = pipelines.wan_i2v()
    expected = generate(pipe, call)
    classes = [type(module) for module in pipe.transformer.modules()]
    attributes = [set(vars(module)) for module in pipe.transformer.modules()]
    with alignvid.attach(
        pipe, Recipe(modulation, BlockSet.of([1]), StepWindow.fraction(0.0, 0.3), "cond")
    ) as attachment:
        generate(pipe, call)
    assert (attachment.acted_count, attachment.forward_count) == (1, 6)
    assert [type(module) for module in pipe.transformer.modules()] == classes
    assert [set(vars(module)) for module in pipe.transformer.modules()] == attributes
    assert torch.equal(generate(pipe, call), expected)


@torch.no_grad()
@pytest.mark.parametrize("modulation", [KeyBlur(SIGMA), LowPass(2.0)], ids=lambda kind: kind.kind)
def test_samples_of_a_batch_can_be_switched_off_one_by_one(modulation):
    transformer = pipelines.wan_i2v()[0].transformer
    inputs = wan_inputs(990.0, batch=2)
    (plain,) = transformer(**inputs)
    recipe = everywhere(modulation).override(branch="cond")
    with alignvid.attach(transformer, recipe), transformer.cache_context("cond_uncond"):
        (changed,) = transformer(**inputs)
    assert torch.equal(changed[0], plain[0]) and not torch.equal(changed[1], plain[1])


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("modulation", [KeyBlur(SIGMA), LowPass(2.0)], ids=lambda kind: kind.kind)
def test_compiled_is_eager_in_two_graphs_without_a_break(modulation):
    transformer = pipelines.wan_i2v()[0].transformer
    runs = [wan_inputs(timestep) for timestep in (990.0, 950.0, 100.0, 990.0)]
    recipe = everywhere(modulation).override(steps=StepWindow.noise_above(0.9))
    assert graphs_as_eager(transformer, recipe, runs) == 2


def test_attachment_tells_what_happens():
    pipe, _ = pipelines.wan_i2v()
    with alignvid.attach(pipe, everywhere(KeyBlur(2.0))) as attachment:
        assert "transformer blocks 0-2 of `blocks`" in str(attachment)
        assert "cross.image blurred, sigma 2 tokens" in str(attachment)
    with alignvid.attach(pipe, everywhere(LowPass(2.0))) as attachment:
        assert "transformer input; 0% to 100% of the steps" in str(attachment)
        assert "reference low-passed, sigma 2 latent pixels at pure noise" in str(attachment)
        assert attachment.to_dict()["recipe"]["modulation"] == {"kind": "low-pass", "sigma": 2.0}


@pytest.mark.parametrize("modulation", [KeyBlur(2.0, ("self.video",)), LowPass(1.0)], ids=lambda kind: kind.kind)
def test_variants_round_trip_and_are_hashable(modulation):
    recipe = everywhere(modulation)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert hash(Recipe.from_dict(recipe.to_dict())) == hash(recipe)


def test_streams_choose_the_targets_of_a_blur():
    pipe, _ = pipelines.wan_i2v()
    with alignvid.attach(pipe, everywhere(KeyBlur()), streams=["self.video"]) as attachment:
        assert attachment.recipe.modulation == KeyBlur(1.0, ("self.video",))


@pytest.mark.parametrize("modulation", [KeyBlur(), LowPass()], ids=lambda kind: kind.kind)
def test_gamma_is_refused(modulation):
    with pytest.raises(ModulationError, match=f"'{modulation.kind}' has no gamma to override; it has sigma"):
        everywhere(modulation).override(gamma=1.35)


@pytest.mark.parametrize("kind", ["key-blur", "low-pass"])
def test_impossible_sigma_is_refused(kind):
    with pytest.raises(ModulationError, match="finite number of 0 or more"):
        from_dict({"kind": kind, "sigma": -1.0})


@pytest.mark.parametrize(
    ("name", "target"), [("wan_i2v", "cross.text"), ("framepack_v1", "single.history"), ("hunyuan_t2v", "double.text")]
)
def test_a_stream_without_a_grid_is_refused_with_those_that_have_one(name, target):
    pipe, _ = pipelines.BUILDERS[name]()
    with pytest.raises(UnknownTarget, match=rf"'{target}' lie on no grid .* choose from .*\.image, "):
        alignvid.attach(pipe, everywhere(KeyBlur(1.0, (target,))))


@pytest.mark.parametrize("name", ["wan_t2v", "wan22_ti2v_5b", "wan_vace", "hunyuan_t2v", "framepack_v1"])
def test_an_input_without_reference_channels_is_refused(name):
    pipe, _ = pipelines.BUILDERS[name]()
    with pytest.raises(UnknownTarget, match="holds no channels of a reference image to low-pass"):
        alignvid.attach(pipe, everywhere(LowPass()))
