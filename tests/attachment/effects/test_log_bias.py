"""Log-bias: by hand, then on real pipelines against softmax(z + b) written out here."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers.models.transformers import (
    transformer_flux,
    transformer_flux3,
    transformer_hunyuan_video,
    transformer_ideogram4,
    transformer_wan,
)
from torch import Tensor

import alignvid
import pipelines
from alignvid.attachment.effects.log_bias import additive_mask
from alignvid.blocks import BlockSet
from alignvid.errors import ModulationError, UnknownTarget
from alignvid.modulation import LogBias
from alignvid.recipe import Recipe
from alignvid.schedule import StepWindow
from compiling import graphs_as_eager
from pipelines import generate
from registry import BUILDERS


def everywhere(modulation: LogBias) -> Recipe:
    return Recipe(modulation, BlockSet.of("all"), StepWindow.all())


def bias(*values: float) -> Tensor:
    return torch.tensor(values).view(1, 1, 1, -1)


def test_bias_is_the_logarithm_of_gamma_times_the_power():
    assert LogBias(2.0).bias(3.0) == pytest.approx(3 * math.log(2))


def test_odds_are_multiplied_by_gamma():
    logits = torch.tensor([0.3, -1.0, 0.7])
    before, after = logits.softmax(0), (logits + bias(math.log(2.0), 0.0, 0.0)).flatten().softmax(0)
    assert (after[0] / after[1:]).tolist() == pytest.approx((2 * before[0] / before[1:]).tolist())


def test_masked_keys_stay_masked():
    mask = torch.tensor([True, False]).view(1, 1, 1, 2)
    assert additive_mask(bias(0.5, 0.5), mask).flatten().tolist() == [0.5, -math.inf]
    assert additive_mask(bias(0.5, 0.5), bias(1.0, -math.inf)).flatten().tolist() == [1.5, -math.inf]
    assert additive_mask(bias(0.5, 0.5), None).flatten().tolist() == [0.5, 0.5]


JOINT = ["hunyuan_t2v", "hunyuan_i2v_latent_concat", "hunyuan_i2v_token_replace", "framepack_v1", "framepack_f1"]


@pytest.mark.parametrize("name", JOINT)
def test_neutral_bias_is_bit_equal(name):
    pipe, call = pipelines.BUILDERS[name]()
    expected = generate(pipe, call)
    with alignvid.attach(pipe, everywhere(LogBias(1.0, {"*.*": 2.0}))) as attachment:
        assert torch.equal(generate(pipe, call), expected)
    assert attachment.acted_count > 0


def first_attention(pipe: Any, call: dict[str, Any], monkeypatch: Any, index: int) -> tuple[Tensor, ...]:
    """Query, key, value, mask and output of one attention of a run."""
    calls: list[tuple[Any, ...]] = []
    original = transformer_wan.dispatch_attention_fn

    def record(query: Tensor, key: Tensor, value: Tensor, attn_mask: Any, **options: Any) -> Tensor:
        output = original(query, key, value, attn_mask=attn_mask, **options)
        calls.append((query, key, value, attn_mask, output))
        return output

    with monkeypatch.context() as patch:
        for module in (
            transformer_wan,
            transformer_hunyuan_video,
            transformer_flux,
            transformer_flux3,
            transformer_ideogram4,
        ):
            patch.setattr(module, "dispatch_attention_fn", record)
        generate(pipe, call)
    return calls[index]


@pytest.mark.parametrize(
    ("name", "index", "stack", "powers", "tokens"),
    [
        ("hunyuan_t2v", 0, "transformer_blocks", {"double.text": 1.0}, [(24, 0.0), (24, 1.0)]),
        ("hunyuan_t2v", 3, "single_transformer_blocks", {"single.*": 1.0, "single.text": 2.0}, [(24, 1.0), (24, 2.0)]),
        (
            "hunyuan_i2v_token_replace",
            0,
            "transformer_blocks",
            {"double.image": -1.0},
            [(8, -1.0), (16, 0.0), (24, 0.0)],
        ),
        (
            "framepack_v1",
            0,
            "transformer_blocks",
            {"double.text": 1.0, "double.history": -1.0},
            [(18, -1.0), (24, 0.0), (16, 0.0), (14, 1.0)],
        ),
        ("framepack_v1", 3, "single_transformer_blocks", {"single.image": 1.0}, [(42, 0.0), (16, 1.0), (14, 0.0)]),
        (
            "flux3_edit",
            3,  # after the blocks of text, picture and references
            "single_transformer_blocks",
            {"single.text": 1.0, "single.image": -1.0},
            [(12, 1.0), (8, 0.0), (128, -1.0)],
        ),
        ("ideogram4", 0, "layers", {"single.text": 1.0}, [(40, 1.0), (8, 0.0)]),
        ("flux", 0, "transformer_blocks", {"double.text": 1.0}, [(12, 1.0), (32, 0.0)]),  # its norms: picture, text
        ("wan22_ti2v_5b", 0, "blocks", {"self.image": -1.0}, [(2, -1.0), (4, 0.0)]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_attention_is_the_softmax_of_the_biased_logits(name, index, stack, powers, tokens, monkeypatch):
    pipe, call = BUILDERS[name]()
    query, key, value, mask, plain = first_attention(pipe, call, monkeypatch, index)
    recipe = Recipe(LogBias(2.0, powers), BlockSet.of({stack: [0]}), StepWindow.all())
    with alignvid.attach(pipe, recipe):
        *_, biased = first_attention(pipe, call, monkeypatch, index)
    logits = torch.einsum("bqhd,bkhd->bhqk", query, key) / query.shape[-1] ** 0.5
    logits = logits + torch.cat([torch.full((count,), power * math.log(2.0)) for count, power in tokens])
    logits = logits if mask is None else logits.masked_fill(~mask, -math.inf)
    expected = torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), value)
    assert torch.allclose(biased, expected, atol=1e-5)
    assert not torch.allclose(biased, plain, atol=1e-4)


def test_only_chosen_blocks_steps_and_branch_are_changed():
    pipe, call = pipelines.hunyuan_t2v()
    recipe = Recipe(LogBias(), BlockSet.of({"transformer_blocks": [1]}), StepWindow.fraction(0.0, 0.3), "cond")
    with alignvid.attach(pipe, recipe) as attachment:
        changed = {
            name
            for name, module in pipe.transformer.named_modules()
            if hasattr(type(module), "_alignvid_base") and name
        }
        generate(pipe, call, true_cfg_scale=2.0)
    assert changed == {"transformer_blocks.1.attn"}
    assert (attachment.active_forward_count, attachment.forward_count) == (1, 6)


def test_detach_restores_classes_weights_and_output():
    pipe, call = pipelines.hunyuan_t2v()
    expected = generate(pipe, call)
    classes = [type(module) for module in pipe.transformer.modules()]
    attributes = [set(vars(module)) for module in pipe.transformer.modules()]
    with alignvid.attach(pipe, everywhere(LogBias())):
        assert not torch.equal(generate(pipe, call), expected)
    assert [type(module) for module in pipe.transformer.modules()] == classes
    assert [set(vars(module)) for module in pipe.transformer.modules()] == attributes
    assert torch.equal(generate(pipe, call), expected)


def hunyuan_inputs(timestep: float, batch: int = 1) -> dict[str, Any]:
    torch.manual_seed(1)
    return {
        "hidden_states": torch.randn(batch, 4, 3, 2, 4),
        "timestep": torch.full((batch,), timestep),
        "encoder_hidden_states": torch.randn(batch, 24, 16),
        "encoder_attention_mask": (torch.arange(24) < 18).float().expand(batch, -1),
        "pooled_projections": torch.randn(batch, 8),
        "guidance": torch.full((batch,), 4500.0),
        "return_dict": False,
    }


@torch.no_grad()
def test_samples_of_a_batch_can_be_switched_off_one_by_one():
    transformer = pipelines.hunyuan_t2v()[0].transformer
    inputs = hunyuan_inputs(990.0, batch=2)
    (plain,) = transformer(**inputs)
    recipe = everywhere(LogBias(2.0)).override(branch="cond")
    with alignvid.attach(transformer, recipe), transformer.cache_context("cond_uncond"):
        (biased,) = transformer(**inputs)
    assert torch.allclose(biased[0], plain[0], atol=1e-6) and not torch.allclose(biased[1], plain[1], atol=1e-4)


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_types")
def test_compiled_is_eager_in_two_graphs_without_a_break():
    transformer = pipelines.hunyuan_t2v()[0].transformer
    early, late = hunyuan_inputs(990.0), hunyuan_inputs(100.0)
    recipe = everywhere(LogBias(2.0)).override(steps=StepWindow.noise_above(0.9))
    assert graphs_as_eager(transformer, recipe, [early, late, early]) == 2


def test_attachment_tells_the_modulation():
    pipe, _ = pipelines.hunyuan_t2v()
    with alignvid.attach(pipe, everywhere(LogBias(2.0, {"single.text": 1.0}))) as attachment:
        assert "single.text logits +0.6931" in str(attachment)
        assert attachment.to_dict()["recipe"]["modulation"]["kind"] == "log-bias"


def test_log_bias_round_trips_and_takes_overrides():
    recipe = everywhere(LogBias(2.0))
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert recipe.override(gamma=3.0, powers={"single.text": 1.0}).modulation == LogBias(3.0, {"single.text": 1.0})


def test_impossible_gamma_is_refused():
    with pytest.raises(ModulationError, match="finite positive number"):
        LogBias(-1.0)


@pytest.mark.parametrize("name", ["wan_t2v", "wan_i2v", "wan22_i2v", "wan_vace"])
@pytest.mark.parametrize("powers", [{"*.text": 1.0}, {"self.video": 1.0}], ids=str)
def test_a_stream_alone_in_its_softmax_is_refused_with_the_reason(name, powers):
    pipe, _ = pipelines.BUILDERS[name]()
    with pytest.raises(UnknownTarget, match="is alone in its softmax, where a constant on all logits does nothing"):
        alignvid.attach(pipe, everywhere(LogBias(2.0, powers)))
