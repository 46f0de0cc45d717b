"""GRAG, DCAG and the reference weight: by hand, then on real pipelines against attention written out here."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor

import alignvid
from alignvid.attachment.effects.grag import spread
from alignvid.blocks import BlockSet
from alignvid.errors import ModulationError, UnknownTarget
from alignvid.modulation import Dcag, Grag, Modulation, RefKV, from_dict
from alignvid.recipe import Recipe
from alignvid.schedule import StepWindow
from attention_calls import calls_of
from pipelines import generate
from registry import BUILDERS

KINDS: list[Modulation] = [Grag(0.7), Dcag(0.7, 0.8, 1.2), RefKV(1.3), RefKV(1.2, 0.75), RefKV(1.0, 0.2)]
LAYOUTS = {  # attention: tokens by stream in the order of the softmax, counted by hand from the calls
    "framepack_v1": {
        "transformer_blocks.0.attn": {"history": 18, "video": 24, "image": 16, "text": 14},
        "single_transformer_blocks.0.attn": {"history": 18, "video": 24, "image": 16, "text": 14},
    },
    "hunyuan_i2v_token_replace": {"transformer_blocks.0.attn": {"image": 8, "video": 16, "text": 24}},
    "flux_kontext": {
        "transformer_blocks.0.attn": {"text": 12, "video": 32, "image": 96},
        "single_transformer_blocks.0.attn": {"text": 12, "video": 32, "image": 96},
    },
    "hunyuan15_i2v": {"transformer_blocks.0.attn": {"video": 3 * 5 * 10, "image": 2 * 2, "text": 16 + 5}},
    "flux2_klein": {"transformer_blocks.0.attn": {"text": 12, "video": 8, "image": 128}},
    "qwen_image_edit_plus": {"transformer_blocks.0.attn": {"text": 12, "video": 8, "image": 64}},
}
NEUTRAL: list[Modulation] = [Grag(1.0), Dcag(1.0, 1.0), RefKV(1.0)]
CASES = [(name, path) for name, attentions in LAYOUTS.items() for path in attentions]


def _mostly_slow(cases: Any) -> list[Any]:
    """The first and the last of these each time, the others with --run-slow."""
    one, *others, last = cases
    slow = [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow) for case in others]
    return [one, *slow, last]


def slices(layout: dict[str, int]) -> dict[str, slice]:
    ends = accumulate(layout.values())
    return {name: slice(end - size, end) for (name, size), end in zip(layout.items(), ends, strict=True)}


def test_spread_of_two_tokens_by_hand():
    tokens = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)  # mean 2
    assert spread(tokens, 1.0, 0.5).flatten().tolist() == [1.5, 2.5]
    assert spread(tokens, 1.5, 2.0).flatten().tolist() == [1.0, 5.0]  # 3 - 2, 3 + 2
    assert spread(tokens, 1.0, 0.0).flatten().tolist() == [2.0, 2.0]


def test_spread_of_one_is_the_tokens_bit_by_bit_in_half_precision_too():
    tokens = torch.randn(2, 5, 3, 8).bfloat16()
    assert torch.equal(spread(tokens, 1.0, 1.0), tokens)


@pytest.mark.parametrize(
    ("weight", "balance", "image", "text"),
    [(1.1, 0.5, 1.1, 1.0), (1.0, 0.75, 0.5, 1.0), (1.0, 0.25, 1.0, 0.5), (1.2, 1.0, 0.0, 1.0), (1.2, 0.0, 1.2, 0.0)],
)
def test_a_balance_weakens_one_side_and_never_strengthens_the_other(weight, balance, image, text):
    assert RefKV(weight, balance).weights == {"image": pytest.approx(image), "text": pytest.approx(text)}


@pytest.mark.parametrize("modulation", NEUTRAL, ids=lambda kind: kind.kind)
@pytest.mark.parametrize("name", _mostly_slow(LAYOUTS))
def test_a_neutral_one_is_bit_equal(modulation, name):
    pipe, call = BUILDERS[name]()
    expected = generate(pipe, call)
    with alignvid.attach(pipe, modulation) as attachment:
        assert torch.equal(generate(pipe, call), expected)
    assert attachment.acted_count > 0


def changed(modulation: Any, tokens: Tensor, where: dict[str, slice], *, is_key: bool) -> Tensor:
    """Keys or values as the source's formula has them."""
    made = tokens.clone()
    if isinstance(modulation, RefKV):
        for stream, weight in modulation.weights.items():
            made[:, where[stream]] *= weight
        return made
    image = tokens[:, where["image"]]
    mean = image.mean(1, keepdim=True)
    factor, on_mean = (modulation.key_spread, modulation.mean) if is_key else (modulation.value_spread, 1.0)
    made[:, where["image"]] = on_mean * mean + factor * (image - mean)
    return made


@pytest.mark.parametrize("modulation", KINDS, ids=lambda kind: f"{kind.kind} {kind.words(1.0)}")
@pytest.mark.parametrize(("name", "path"), _mostly_slow(CASES))
def test_attention_is_that_of_the_changed_keys_and_values_after_rotation(modulation, name, path):
    pipe, call = BUILDERS[name]()
    plain = calls_of(pipe, call)[path]
    recipe = Recipe(modulation, BlockSet.of({path.split(".")[0]: [0]}), StepWindow.all())
    with alignvid.attach(pipe, recipe):
        acted = calls_of(pipe, call)[path]
    where = slices(LAYOUTS[name][path])
    assert plain.key.shape[1] == sum(LAYOUTS[name][path].values())
    keys, values = (changed(modulation, part, where, is_key=part is plain.key) for part in (plain.key, plain.value))
    expected = plain.attended(plain.softmax(key=keys), value=values)
    assert torch.allclose(acted.output.flatten(2), expected.flatten(2), atol=1e-5)
    assert not torch.allclose(acted.output, plain.output, atol=1e-4)


def test_a_kind_alone_acts_in_the_blocks_and_steps_of_its_source():
    pipe, call = BUILDERS["flux_kontext"]()
    with alignvid.attach(pipe, Grag(0.8)) as attachment:
        generate(pipe, call)
    assert attachment.active_forward_count == attachment.forward_count > 0
    assert attachment.recipe == Recipe(Grag(0.8), BlockSet.of("all"), StepWindow.all())
    assert "double.image keys spread x0.8, mean x1" in str(attachment)


def test_two_of_them_act_one_after_the_other_on_one_attention():
    pipe, call = BUILDERS["flux_kontext"]()
    path = "transformer_blocks.0.attn"
    plain, where = calls_of(pipe, call)[path], slices(LAYOUTS["flux_kontext"][path])
    where_and_when = (BlockSet.of({"transformer_blocks": [0]}), StepWindow.all())
    recipe = Recipe(RefKV(1.3), *where_and_when, then=(Recipe(Dcag(0.7, 0.8, 1.2), *where_and_when),))
    with alignvid.attach(pipe, recipe):
        acted = calls_of(pipe, call)[path]
    keys, values = plain.key, plain.value
    for one in (RefKV(1.3), Dcag(0.7, 0.8, 1.2)):
        keys, values = changed(one, keys, where, is_key=True), changed(one, values, where, is_key=False)
    assert torch.allclose(acted.output, plain.attended(plain.softmax(key=keys), value=values), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("modulation", [Dcag(0.7, 0.8), RefKV(1.3)], ids=lambda kind: kind.kind)
def test_samples_of_a_batch_can_be_switched_off_one_by_one(modulation):
    transformer = BUILDERS["hunyuan_i2v_token_replace"]()[0].transformer
    torch.manual_seed(1)
    inputs = {
        "hidden_states": torch.randn(2, 4, 3, 2, 4),
        "timestep": torch.full((2,), 990.0),
        "encoder_hidden_states": torch.randn(2, 24, 16),
        "encoder_attention_mask": (torch.arange(24) < 18).float().expand(2, -1),
        "pooled_projections": torch.randn(2, 8),
        "guidance": torch.full((2,), 4500.0),
        "return_dict": False,
    }
    (plain,) = transformer(**inputs)
    recipe = Recipe.of(modulation).override(branch="cond")
    with alignvid.attach(transformer, recipe), transformer.cache_context("cond_uncond"):
        (acted,) = transformer(**inputs)
    assert torch.equal(acted[0], plain[0]) and not torch.allclose(acted[1], plain[1], atol=1e-5)


@pytest.mark.parametrize("modulation", KINDS, ids=lambda kind: kind.kind)
def test_they_round_trip_and_are_hashable(modulation):
    assert from_dict(modulation.to_dict()) == modulation
    assert hash(from_dict(modulation.to_dict())) == hash(modulation)


@pytest.mark.parametrize("name", ["wan_t2v", "flux", "hunyuan_t2v"])
def test_a_model_without_source_tokens_is_refused(name):
    with pytest.raises(UnknownTarget, match=r"no target that matches \*\.image"):
        alignvid.attach(BUILDERS[name]()[0], Grag())


def test_image_keys_in_a_softmax_of_their_own_are_refused():
    with pytest.raises(UnknownTarget, match="'cross' has a softmax for each of its key norms"):
        alignvid.attach(BUILDERS["wan_i2v"]()[0], Grag())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "grag", "key_spread": -1.0}, "key_spread must be a finite number of 0 or more"),
        ({"kind": "grag", "value_spread": 1.0}, "no field 'value_spread'"),
        ({"kind": "ref-kv", "weight": -1.0}, "weight must be a finite number of 0 or more"),
        ({"kind": "ref-kv", "balance": 1.5}, r"from 0 \(picture\) to 1 \(text\), but 1\.5 was given"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ModulationError, match=message):
        from_dict(settings)
