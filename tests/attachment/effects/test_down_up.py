"""Down-up, ALG's filter: by hand and in the transformer's input."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import alignvid
import pipelines
from alignvid.attachment.effects.down_up import down_up
from alignvid.blocks import BlockSet
from alignvid.errors import ModulationError, UnknownTarget
from alignvid.modulation import DownUp, from_dict
from alignvid.recipe import Recipe
from alignvid.schedule import StepWindow
from pipelines import generate

WITH_REFERENCE_CHANNELS = ["wan_i2v", "wan_flf2v", "wan22_i2v", "hunyuan_i2v_latent_concat"]


def test_half_of_four_pixels_in_a_row_by_hand():
    pictures = torch.tensor([0.0, 0.0, 4.0, 4.0]).view(1, 1, 1, 4)
    # antialiased: a tent of two pixels on each side, weights 1 3 3 1 of 8, cut at the edge: 1 3 3 of 7
    low, high = (3 * 0 + 3 * 0 + 1 * 4) / 7, (1 * 0 + 3 * 4 + 3 * 4) / 7
    expected = [low, low + (high - low) / 4, low + 3 * (high - low) / 4, high]
    assert down_up(pictures, 0.5).flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_a_ratio_of_one_changes_nothing_and_a_flat_picture_stays_flat():
    pictures = torch.randn(2, 3, 8, 6)
    assert torch.equal(down_up(pictures, 1.0), pictures)
    assert torch.allclose(down_up(torch.full((1, 1, 8, 6), 3.0), 0.4), torch.full((1, 1, 8, 6), 3.0))
    assert down_up(torch.randn(1, 1, 1, 2), 0.1).shape == (1, 1, 1, 2)  # a side of one pixel at least


@pytest.mark.parametrize("name", WITH_REFERENCE_CHANNELS)
def test_a_neutral_one_is_bit_equal_and_detach_restores(name):
    pipe, call = pipelines.BUILDERS[name]()
    everywhere = (BlockSet.of("all"), StepWindow.all())
    expected = generate(pipe, call)
    with alignvid.attach(pipe, Recipe(DownUp(1.0), *everywhere)) as attachment:
        assert torch.equal(generate(pipe, call), expected)
    assert attachment.acted_count == attachment.forward_count > 0
    with alignvid.attach(pipe, Recipe(DownUp(0.4), *everywhere)) as attachment:
        if name.startswith("wan"):  # HunyuanVideo's tiny latents of 2x2 need not have details to lose
            assert not torch.equal(generate(pipe, call), expected)
    assert "reference scaled down to 0.4 and up" in str(attachment)
    assert torch.equal(generate(pipe, call), expected)


@torch.no_grad()
def test_it_is_that_of_the_reference_channels_alone():
    transformer = pipelines.wan_i2v()[0].transformer
    torch.manual_seed(1)
    inputs: dict[str, Any] = {
        "hidden_states": torch.randn(1, 36, 3, 4, 8),
        "timestep": torch.full((1,), 500.0),
        "encoder_hidden_states": torch.randn(1, 512, 32),
        "encoder_hidden_states_image": torch.randn(1, 17, 4),
        "return_dict": False,
    }
    with alignvid.attach(transformer, Recipe(DownUp(0.5), BlockSet.of("all"), StepWindow.all())):
        (acted,) = transformer(**inputs)
    latents = inputs["hidden_states"].clone()
    for frame in range(3):  # noise 0-15, mask 16-19, reference 20-35
        latents[:, 20:, frame] = down_up(latents[:, 20:, frame], 0.5)
    (expected,) = transformer(**inputs | {"hidden_states": latents})
    assert torch.allclose(acted, expected, atol=1e-6)


def test_alone_it_acts_in_the_first_fifth_of_the_conditional_pass_and_of_the_only_one():
    pipe, call = pipelines.wan_i2v()
    with alignvid.attach(pipe, DownUp()) as attachment:
        generate(pipe, call, num_inference_steps=5, guidance_scale=2.0)
    assert (attachment.active_forward_count, attachment.forward_count) == (1, 10)
    with alignvid.attach(pipe, DownUp()) as attachment:
        generate(pipe, call, num_inference_steps=5, guidance_scale=1.0)
    assert (attachment.active_forward_count, attachment.forward_count) == (1, 5)


@pytest.mark.parametrize("name", ["wan_t2v", "wan22_ti2v_5b", "framepack_v1"])
def test_an_input_without_reference_channels_is_refused(name):
    with pytest.raises(UnknownTarget, match="holds no channels of a reference image to low-pass"):
        alignvid.attach(pipelines.BUILDERS[name]()[0], DownUp())


@pytest.mark.parametrize("ratio", [0.0, -1.0, 1.5, float("nan")])
def test_it_round_trips_and_an_impossible_ratio_is_refused(ratio):
    assert from_dict(DownUp(0.3).to_dict()) == DownUp(0.3) and hash(DownUp()) == hash(DownUp())
    with pytest.raises(ModulationError, match="ratio must be above 0 and at most 1"):
        DownUp(ratio)
