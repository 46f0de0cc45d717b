"""DyMoS: the first latent frame's logits, by hand and on real pipelines."""

from __future__ import annotations

import math

import pytest
import torch

import alignvid
import pipelines
from alignvid.blocks import BlockSet
from alignvid.errors import ModulationError, UnknownTarget
from alignvid.modulation import DyMoS, Scalar, from_dict
from alignvid.recipe import Recipe
from alignvid.schedule import StepWindow
from attention_calls import calls_of
from compiling import graphs_as_eager
from pipelines import generate
from registry import BUILDERS

CASES = {  # path of an attention: the tokens of its first latent frame, by hand
    ("wan_i2v", "blocks.0.attn1"): slice(0, 2),
    ("wan22_i2v", "blocks.0.attn1"): slice(0, 2),
    ("wan22_ti2v_5b", "blocks.0.attn1"): slice(0, 2),
    ("hunyuan_i2v_token_replace", "transformer_blocks.0.attn"): slice(0, 8),
    ("hunyuan_i2v_latent_concat", "transformer_blocks.0.attn"): slice(0, 8),
}
EVERYWHERE = Recipe(DyMoS(), BlockSet.of("all"), StepWindow.all())


def test_the_penalty_of_the_source_multiplies_the_odds_by_about_055():
    logits = torch.tensor([0.3, -1.0, 0.7])
    before, after = logits.softmax(0), (logits - torch.tensor([DyMoS().penalty, 0.0, 0.0])).softmax(0)
    assert (after[0] / after[1]).item() == pytest.approx(math.exp(-0.6) * (before[0] / before[1]).item())
    assert math.exp(-DyMoS().penalty) == pytest.approx(0.549, abs=5e-4)


@pytest.mark.parametrize(("name", "path"), CASES, ids=lambda value: value)
def test_attention_is_the_softmax_with_the_first_frames_logits_lowered(name, path):
    pipe, call = BUILDERS[name]()
    plain = calls_of(pipe, call)[path]
    with alignvid.attach(pipe, EVERYWHERE, blocks={path.split(".")[0]: [0]}):
        acted = calls_of(pipe, call)[path]
    logits = torch.einsum("bqhd,bkhd->bhqk", plain.query, plain.key) * plain.scale
    logits[..., CASES[name, path]] -= 0.6
    if plain.mask is not None:
        logits = logits.masked_fill(~plain.mask, -torch.inf)
    assert torch.allclose(acted.output, plain.attended(logits.softmax(-1)), atol=1e-5)
    assert not torch.allclose(acted.output, plain.output, atol=1e-4)


@pytest.mark.parametrize("name", dict.fromkeys(name for name, _ in CASES))
def test_no_penalty_is_bit_equal_and_detach_restores(name):
    pipe, call = BUILDERS[name]()
    expected = generate(pipe, call)
    with alignvid.attach(pipe, Recipe(DyMoS(0.0), BlockSet.of("all"), StepWindow.all())):
        assert torch.equal(generate(pipe, call), expected)
    with alignvid.attach(pipe, EVERYWHERE):
        assert not torch.equal(generate(pipe, call), expected)
    assert torch.equal(generate(pipe, call), expected)


def test_alone_it_acts_in_all_blocks_in_the_first_fifth_of_the_conditional_pass():
    pipe, call = pipelines.wan_i2v()
    with alignvid.attach(pipe, DyMoS()) as attachment:
        generate(pipe, call, num_inference_steps=5, guidance_scale=2.0)
    assert (attachment.active_forward_count, attachment.forward_count) == (1, 10)
    assert "self.video first latent frame's logits -0.6" in str(attachment)
    assert attachment.blocks("transformer") == {"blocks": "0-2"}


def test_it_acts_beside_a_gain():
    pipe, call = pipelines.wan_i2v()
    gain = Recipe(Scalar(1.35, {"cross.text": 1.0}), BlockSet.of("all"), StepWindow.all())
    alone, both = [], Recipe(gain.modulation, gain.blocks, gain.steps, then=(EVERYWHERE,))
    for recipe in (gain, EVERYWHERE):
        with alignvid.attach(pipe, recipe):
            alone.append(generate(pipe, call))
    with alignvid.attach(pipe, both) as attachment:
        together = generate(pipe, call)
    assert all(not torch.equal(together, one) for one in alone)
    assert attachment.actions == ["cross.text x1.35", "self.video first latent frame's logits -0.6"]


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.usefixtures("unchecked_types", "fresh_dynamo")
def test_compiled_is_eager_in_two_graphs_without_a_break():
    transformer = pipelines.wan_i2v()[0].transformer
    torch.manual_seed(1)
    early = {
        "hidden_states": torch.randn(1, 36, 3, 4, 8),
        "timestep": torch.full((1,), 990.0),
        "encoder_hidden_states": torch.randn(1, 512, 32),
        "encoder_hidden_states_image": torch.randn(1, 17, 4),
        "return_dict": False,
    }
    late = early | {"timestep": torch.full((1,), 100.0)}
    recipe = EVERYWHERE.override(steps=StepWindow.noise_above(0.9))
    assert graphs_as_eager(transformer, recipe, [early, late, early]) == 2


@pytest.mark.parametrize("name", ["wan_t2v", "framepack_v1", "hunyuan_t2v", "flux_kontext"])
def test_a_model_without_a_given_first_frame_is_refused(name):
    with pytest.raises(UnknownTarget, match="is given no picture as its first latent frame"):
        alignvid.attach(BUILDERS[name]()[0], DyMoS())


def test_it_round_trips_and_an_impossible_penalty_is_refused():
    assert from_dict(DyMoS(0.3).to_dict()) == DyMoS(0.3)
    assert hash(DyMoS(0.3)) == hash(DyMoS(0.3))
    with pytest.raises(ModulationError, match="penalty must be a finite number of logits"):
        DyMoS(float("inf"))
