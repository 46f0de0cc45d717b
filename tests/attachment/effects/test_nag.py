"""NAG: the formula by hand, then cross-attention of real pipelines against both attentions written out here."""

from __future__ import annotations

from inspect import signature
from typing import Any

import pytest
import torch
from torch import Tensor

import alignvid
import pipelines
from alignvid.attachment.effects.nag import guided
from alignvid.blocks import BlockSet
from alignvid.errors import AttachmentError, ModulationError, RecipeError, UnknownTarget
from alignvid.modulation import LogBias, Nag, Scalar, from_dict
from alignvid.recipe import Recipe
from alignvid.schedule import StepWindow
from attention_calls import Asked, heard
from compiling import graphs_as_eager
from pipelines import generate
from registry import BUILDERS
from worded import give_encoders

NAG = Nag("yes zq", scale=4.0, tau=1.2, alpha=0.5)
CROSS = {  # pipeline: an attention, the modules of its text, and how many softmaxes it has
    "wan_i2v": ("blocks.0.attn2", ("condition_embedder.text_embedder",), 2),
    "wan_t2v": ("blocks.0.attn2", ("condition_embedder.text_embedder",), 1),
    "wan_vace": ("blocks.0.attn2", ("condition_embedder.text_embedder",), 1),
    "wan22_i2v": ("blocks.0.attn2", ("condition_embedder.text_embedder",), 1),
    "skyreels_t2v": ("blocks.0.attn2", ("condition_embedder.text_embedder",), 1),
    "chronoedit": ("blocks.0.attn2", ("condition_embedder.text_embedder",), 2),
    "anyflow": ("blocks.0.attn2", ("condition_embedder.text_embedder",), 1),
    "helios": ("blocks.0.attn2", ("condition_embedder.text_embedder",), 1),
    "ltx_t2v": ("transformer_blocks.0.attn2", ("caption_projection",), 1),
    "sana_video_t2v": ("transformer_blocks.0.attn2", ("caption_projection", "caption_norm"), 1),
}
NAMES = [name if name in ("wan_i2v", "ltx_t2v") else pytest.param(name, marks=pytest.mark.slow) for name in CROSS]


def built(name: str) -> tuple[Any, dict[str, Any]]:
    """A tiny pipeline with a text encoder, which encodes the negative text; its prompt stays the embeddings."""
    pipe, call = BUILDERS[name]()
    give_encoders(pipe, call)
    return pipe, call


def text_call(pipe: Any, call: dict[str, Any], name: str) -> Asked:
    """The first softmax over the text of the attention that is looked at."""
    path, _, softmaxes = CROSS[name]
    with heard(pipe.transformer) as calls:
        generate(pipe, call)
    return [asked for asked in calls if asked.attention == path][softmaxes - 1]


def negative_attention(pipe: Any, plain: Asked, name: str) -> Tensor:
    """What the same queries get of the negative text: encoded, projected and attended to, step by step."""
    path, through, _ = CROSS[name]
    transformer = pipe.transformer
    length = signature(type(pipe).__call__).parameters["max_sequence_length"].default  # not always encode_prompt's own
    made = pipe.encode_prompt("yes zq", do_classifier_free_guidance=False, max_sequence_length=length)
    states = made[0].to(plain.query.dtype)
    if len(made) > 1 and made[1] is not None and made[1].shape == states.shape[:2]:
        states = states[:, made[1][0].bool()]
    for module in through:
        states = transformer.get_submodule(module)(states)
    attention = transformer.get_submodule(path)
    key = attention.norm_k(attention.to_k(states)) if attention.norm_k is not None else attention.to_k(states)
    key, value = (part.unflatten(2, (attention.heads, -1)) for part in (key, attention.to_v(states)))
    weights = (torch.einsum("bqhd,bkhd->bhqk", plain.query[:1], key) * plain.scale).softmax(-1)
    return torch.einsum("bhqk,bkhd->bqhd", weights, value)


def test_the_formula_by_hand():
    positive, negative = torch.tensor([[3.0, -1.0], [1.0, 1.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    # Z̃ = Z⁺ + 1·(Z⁺ − Z⁻) = (5, −3), (1, 2); L1 8 against 4 and 3 against 2: the first is brought back to 1.5 · 4
    made = guided(positive.view(1, 2, 1, 2), negative.view(1, 2, 1, 2), 2.0, 1.5, 0.5)
    assert made.flatten().tolist() == pytest.approx([(3 + 3.75) / 2, (-1 - 2.25) / 2, 1.0, 1.5])


def test_a_scale_of_one_is_bit_equal_in_half_precision_too():
    positive, negative = torch.randn(2, 3, 2, 8).bfloat16(), torch.randn(2, 3, 2, 8).bfloat16()
    assert torch.equal(guided(positive, negative, 1.0, 2.5, 0.25), positive)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_cross_attention_is_guided_from_that_of_the_negative_text(name):
    pipe, call = built(name)
    plain, expected_run = text_call(pipe, call, name), generate(pipe, call)
    recipe = Recipe(NAG, BlockSet.of({CROSS[name][0].split(".")[0]: [0]}), StepWindow.all())
    with alignvid.attach(pipe, recipe, strict=True) as attachment:
        acted = text_call(pipe, call, name)
        assert not torch.equal(generate(pipe, call), expected_run)
    negative = negative_attention(pipe, plain, name)
    away = 4.0 * plain.output - 3.0 * negative
    ratio = away.abs().sum((2, 3), keepdim=True) / plain.output.abs().sum((2, 3), keepdim=True)
    away = torch.where(ratio > 1.2, away * 1.2 / ratio, away)
    assert (ratio > 1.2).any()
    expected = 0.5 * away + 0.5 * plain.output
    assert torch.allclose(acted.output, expected, atol=1e-5)
    assert torch.equal(generate(pipe, call), expected_run)
    assert attachment.acted_count > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_neutral_one_is_bit_equal(name):
    pipe, call = built(name)
    expected = generate(pipe, call)
    for neutral in (Nag(scale=1.0), Nag(alpha=0.0)):
        with alignvid.attach(pipe, neutral):
            assert torch.equal(generate(pipe, call), expected)


def test_alone_it_acts_in_all_blocks_of_the_conditional_pass_and_says_so():
    pipe, call = built("wan_i2v")
    with alignvid.attach(pipe, Nag()) as attachment:
        generate(pipe, call)
    assert attachment.active_forward_count * 2 == attachment.forward_count > 0
    assert attachment.blocks("transformer") == {"blocks": "0-2"}
    assert "cross.text guided x11 from 'static, unchanged appearance' (tau 2.5, alpha 0.25)" in str(attachment)


def test_without_guidance_there_is_one_pass_and_it_acts():
    pipe, call = built("wan_t2v")
    plain = generate(pipe, call, guidance_scale=1.0)
    with alignvid.attach(pipe, NAG) as attachment:
        assert not torch.equal(generate(pipe, call, guidance_scale=1.0), plain)
    assert attachment.active_forward_count == attachment.forward_count == 3


@torch.no_grad()
def test_beside_a_gain_the_negative_texts_keys_get_it_too():
    pipe, call = built("wan_t2v")
    plain = text_call(pipe, call, "wan_t2v")
    where = (BlockSet.of({"blocks": [0]}), StepWindow.all())
    recipe = Recipe(Scalar(1.5, {"cross.text": 1.0}), *where, then=(Recipe(NAG, *where),))
    with alignvid.attach(pipe, recipe):
        acted = text_call(pipe, call, "wan_t2v")
    positive = plain.attended(plain.softmax(key=1.5 * plain.key))
    sharper = plain._replace(scale=1.5 * plain.scale)
    away = 4.0 * positive - 3.0 * negative_attention(pipe, sharper, "wan_t2v")
    ratio = away.abs().sum((2, 3), keepdim=True) / positive.abs().sum((2, 3), keepdim=True)
    away = torch.where(ratio > 1.2, away * 1.2 / ratio, away)
    assert torch.allclose(acted.output, 0.5 * away + 0.5 * positive, atol=1e-5)


@torch.no_grad()
def test_samples_of_a_batch_can_be_switched_off_one_by_one():
    pipe, _ = built("wan_t2v")
    torch.manual_seed(1)
    inputs = {
        "hidden_states": torch.randn(1, 16, 3, 2, 4).repeat(2, 1, 1, 1, 1),  # one noise: both branches of a sample
        "timestep": torch.full((2,), 990.0),
        "encoder_hidden_states": torch.randn(2, 24, 32),
        "return_dict": False,
    }
    (plain,) = pipe.transformer(**inputs)
    with alignvid.attach(pipe, NAG), pipe.transformer.cache_context("cond_uncond"):
        (acted,) = pipe.transformer(**inputs)
    assert torch.allclose(acted[0], plain[0], atol=1e-6)  # its text is projected beside the negative one
    assert not torch.allclose(acted[1], plain[1], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("flux", "meets other keys in one softmax"),
        ("hunyuan_t2v", "changes from block to block"),
        ("cogvideox_t2v", "meets other keys in one softmax"),
        ("cosmos2_t2i", "not described by which modules"),
        ("pixart_sigma", "calls a kernel by itself"),
    ],
)
def test_where_there_is_no_second_attention_it_is_refused_with_the_reason(name, message):
    with pytest.raises(UnknownTarget, match=message):
        alignvid.attach(BUILDERS[name]()[0], Nag())


def test_a_pipeline_without_a_text_encoder_is_refused_and_untouched():
    pipe, call = pipelines.wan_t2v()
    expected = generate(pipe, call)
    for model in (pipe, pipe.transformer):
        with pytest.raises(AttachmentError, match="no text encoder here, which must encode the negative text"):
            alignvid.attach(model, Nag())
    assert torch.equal(generate(pipe, call), expected)


def test_beside_a_bias_on_the_same_attention_it_is_refused():
    pipe, _ = built("wan_t2v")
    words = Recipe.of(LogBias(1.5, {"cross.words": 1.0}))
    with pytest.raises(RecipeError, match="only a scalar gain on whole streams can"):
        alignvid.attach(pipe, Recipe(words.modulation, BlockSet.of("all"), StepWindow.all(), then=(Recipe.of(Nag()),)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": float("nan")}, "scale must be a finite number"),
        ({"tau": 0.5}, "tau must be a finite number of 1 or more"),
        ({"alpha": 1.5}, "alpha must be a number from 0 to 1"),
    ],
)
def test_impossible_settings_are_refused_and_it_round_trips(settings, message):
    with pytest.raises(ModulationError, match=message):
        Nag(**settings)
    assert from_dict(NAG.to_dict()) == NAG and hash(NAG) == hash(from_dict(NAG.to_dict()))


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_types", "fresh_dynamo")
def test_compiled_is_eager_in_two_graphs_without_a_break():
    pipe, _ = built("wan_i2v")
    torch.manual_seed(1)
    early = {
        "hidden_states": torch.randn(1, 36, 3, 4, 8),
        "timestep": torch.full((1,), 990.0),
        "encoder_hidden_states": torch.randn(1, 512, 32),
        "encoder_hidden_states_image": torch.randn(1, 17, 4),
        "return_dict": False,
    }
    late = early | {"timestep": torch.full((1,), 100.0)}
    recipe = Recipe(NAG, BlockSet.of("all"), StepWindow.noise_above(0.9))
    assert graphs_as_eager(pipe, recipe, [early, late, early]) == 2
