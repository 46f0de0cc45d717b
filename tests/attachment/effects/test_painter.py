"""Painter: the condition's later frames, by hand and in the transformer's input."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import alignvid
import pipelines
from alignvid.attachment.effects.painter import pushed_away
from alignvid.errors import ModulationError, UnknownTarget
from alignvid.modulation import Painter, from_dict
from alignvid.recipe import Recipe
from pipelines import generate

WITH_REFERENCE_CHANNELS = ["wan_i2v", "wan_flf2v", "wan22_i2v", "hunyuan_i2v_latent_concat"]


def test_by_hand():
    condition = torch.tensor([1.0, 3.0, 2.0, 6.0]).view(1, 1, 2, 1, 2)  # first frame 1, 3; second 2, 6: d 1, 3; m 2
    assert pushed_away(condition, 2.0).flatten().tolist() == [1.0, 3.0, 1.0, 6.0]  # 1 - 2 + 2; 3 + 2 + 2, clamped


def test_an_amount_of_one_changes_and_clamps_nothing():
    condition = 20 * torch.randn(1, 2, 3, 2, 2)
    assert torch.equal(pushed_away(condition, 1.0), condition)


@pytest.mark.parametrize("name", WITH_REFERENCE_CHANNELS)
def test_a_neutral_one_is_bit_equal_and_detach_restores(name):
    pipe, call = pipelines.BUILDERS[name]()
    expected = generate(pipe, call)
    with alignvid.attach(pipe, Painter(1.0)) as attachment:
        assert torch.equal(generate(pipe, call), expected)
    assert attachment.acted_count == attachment.forward_count > 0
    with alignvid.attach(pipe, Painter(2.0)) as attachment:
        assert not torch.equal(generate(pipe, call), expected)
    assert "later frames of the condition x2 from the first" in str(attachment)
    assert torch.equal(generate(pipe, call), expected)


def wan_inputs(batch: int = 1) -> dict[str, Any]:
    torch.manual_seed(1)
    return {
        "hidden_states": torch.randn(batch, 36, 3, 4, 8),
        "timestep": torch.full((batch,), 500.0),
        "encoder_hidden_states": torch.randn(batch, 512, 32),
        "encoder_hidden_states_image": torch.randn(batch, 17, 4),
        "return_dict": False,
    }


@torch.no_grad()
def test_it_is_that_of_the_reference_channels_alone():
    transformer, inputs = pipelines.wan_i2v()[0].transformer, wan_inputs()
    with alignvid.attach(transformer, Painter(1.5)):
        (acted,) = transformer(**inputs)
    latents = inputs["hidden_states"].clone()  # noise 0-15, mask 16-19, reference 20-35
    difference = latents[:, 20:, 1:] - latents[:, 20:, :1]
    mean = difference.mean((1, 3, 4), keepdim=True)
    latents[:, 20:, 1:] = (latents[:, 20:, :1] + 1.5 * (difference - mean) + mean).clamp(-6, 6)
    (expected,) = transformer(**inputs | {"hidden_states": latents})
    assert torch.allclose(acted, expected, atol=1e-6)


@torch.no_grad()
def test_samples_of_a_batch_can_be_switched_off_one_by_one():
    transformer, inputs = pipelines.wan_i2v()[0].transformer, wan_inputs(batch=2)
    (plain,) = transformer(**inputs)
    recipe = Recipe.of(Painter(1.5)).override(branch="cond")
    with alignvid.attach(transformer, recipe), transformer.cache_context("cond_uncond"):
        (acted,) = transformer(**inputs)
    assert torch.equal(acted[0], plain[0]) and not torch.equal(acted[1], plain[1])


@pytest.mark.parametrize("name", ["wan_t2v", "wan22_ti2v_5b", "framepack_v1"])
def test_an_input_without_reference_channels_is_refused(name):
    with pytest.raises(UnknownTarget, match="holds no channels of a reference image to change"):
        alignvid.attach(pipelines.BUILDERS[name]()[0], Painter())


def test_it_round_trips_and_an_impossible_amount_is_refused():
    assert from_dict(Painter(1.3).to_dict()) == Painter(1.3) and hash(Painter()) == hash(Painter())
    with pytest.raises(ModulationError, match="amount must be a finite number of 0 or more"):
        Painter(-1.0)
