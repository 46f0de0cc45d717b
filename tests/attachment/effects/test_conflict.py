"""Conflict-aware gain: the formulas by hand, then on a real Wan 2.1 pipeline against dense attention."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import alignvid
import pipelines
from alignvid.attachment.effects.conflict import (
    Shares,
    attention_shares,
    conflict,
    joint_shares,
    tiled_conflict,
    tiled_joint_conflict,
)
from alignvid.blocks import BlockSet
from alignvid.errors import ModulationError, UnknownTarget
from alignvid.models.attention_call import AttentionCall
from alignvid.modulation import ConflictAware, from_dict
from alignvid.recipe import Recipe
from alignvid.schedule import StepWindow
from attention_calls import calls_of
from compiling import graphs_as_eager
from pipelines import generate
from registry import BUILDERS

EVERYWHERE = Recipe(ConflictAware(1.35), BlockSet.of("all"), StepWindow.all())
STACKS = ("transformer_blocks", "single_transformer_blocks")
TOLERANCE = 1e-6  # float32 keeps 6e-8 of values around 1


def shares(image: float, text: float, entropy: float) -> Shares:
    return Shares(*(torch.tensor([[[value]]]) for value in (image, text, entropy)))


@pytest.mark.parametrize(
    ("image", "text", "entropy", "expected"),
    [
        (0.75, 0.25, 0.4, 0.5 * 0.4),
        (0.25, 0.75, 0.4, 0.0),
        (0.5, 0.5, 1.0, 0.0),
        (1.0, 0.0, 1.0, 0.35),
        (1.0, 0.0, 0.0, 0.0),
        (0.3, 0.1, 0.4, 0.5 * 0.4),
        (0.0, 0.0, 1.0, 0.0),
    ],
    ids=["image wins", "text wins", "even", "clipped", "one key has all", "other keys have the rest", "no mass at all"],
)
def test_conflict_by_hand(image, text, entropy, expected):
    assert conflict(shares(image, text, entropy), cap=0.35).item() == pytest.approx(expected, abs=1e-5)


def test_shares_of_one_query_two_keys_by_hand():
    query, image_key, text_key = (torch.tensor(value).view(1, 1, 1, 1) for value in (1.0, math.log(3.0), 0.0))
    image, text, entropy = attention_shares(query, image_key, text_key)
    assert (image.item(), text.item()) == pytest.approx((0.75, 0.25))
    assert entropy.item() == pytest.approx(-(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)))


def test_entropy_runs_from_zero_to_one():
    query, image_keys, text_keys = torch.ones(1, 1, 1, 4), torch.zeros(1, 3, 1, 4), torch.zeros(1, 5, 1, 4)
    assert attention_shares(query, image_keys, text_keys).entropy.item() == pytest.approx(1.0)
    image_keys[:, 0] = 1000.0
    assert attention_shares(query, image_keys, text_keys).entropy.item() == pytest.approx(0.0, abs=TOLERANCE)


def test_masses_compare_two_softmaxes_by_their_log_sum_exps():
    torch.manual_seed(0)
    queries, image_keys, text_keys = torch.randn(2, 5, 3, 8), torch.randn(2, 4, 3, 8), torch.randn(2, 9, 3, 8)
    image_lse, text_lse = (
        (torch.einsum("bqhd,bkhd->bhqk", queries, keys) / 8**0.5).logsumexp(-1) for keys in (image_keys, text_keys)
    )
    measured = attention_shares(queries, image_keys, text_keys)
    assert torch.allclose(measured.image_mass, torch.sigmoid(image_lse - text_lse), atol=TOLERANCE)
    assert torch.allclose(measured.image_mass + measured.text_mass, torch.ones(2, 3, 5), atol=TOLERANCE)


def test_conflict_grows_with_the_image_and_stays_in_its_bounds():
    query = torch.ones(1, 1, 1, 4)
    image_keys, text_keys = torch.zeros(1, 8, 1, 4), torch.zeros(1, 8, 1, 4)
    amounts = [
        conflict(attention_shares(query, image_keys + rise, text_keys), cap=0.35).item()
        for rise in torch.linspace(-2, 2, 41)
    ]
    assert all(later >= earlier for earlier, later in itertools.pairwise(amounts))
    assert (amounts[0], amounts[-1]) == (0.0, pytest.approx(0.35))


@pytest.mark.parametrize("tile_logits", [1, 100, 10**9])
def test_tiles_change_nothing(tile_logits):
    torch.manual_seed(0)
    queries, image_keys, text_keys = torch.randn(2, 7, 3, 8), 2 * torch.randn(2, 40, 3, 8), torch.randn(2, 9, 3, 8)
    whole = conflict(attention_shares(queries, image_keys, text_keys), cap=0.35)
    assert torch.allclose(tiled_conflict(queries, image_keys, text_keys, 0.35, tile_logits), whole, atol=TOLERANCE)
    assert whole.std() > 0.01


def asked(query: Tensor, key: Tensor, mask: Tensor | None = None) -> AttentionCall:
    return AttentionCall(query, key, key, mask, query.shape[-1] ** -0.5)


def test_joint_shares_of_one_query_three_keys_by_hand():
    key = torch.tensor([0.0, math.log(3.0), 0.0]).view(1, 3, 1, 1)  # video, image, text
    image, text, entropy = joint_shares(asked(torch.ones(1, 1, 1, 1), key), [1, 1, 1], ["video", "image", "text"])
    assert (image.item(), text.item()) == pytest.approx((0.6, 0.2))
    bits = -(0.6 * math.log(0.6) + 2 * 0.2 * math.log(0.2))
    assert entropy.item() == pytest.approx(bits / math.log(3.0))


def test_joint_shares_without_other_keys_are_those_of_cross_attention():
    torch.manual_seed(0)
    query, image, text = torch.randn(2, 5, 3, 8), torch.randn(2, 4, 3, 8), torch.randn(2, 9, 3, 8)
    joint = joint_shares(asked(query, torch.cat([text, image], 1)), [9, 4], ["text", "image"])
    for one, other in zip(joint, attention_shares(query, image, text), strict=True):
        assert torch.allclose(one, other, atol=TOLERANCE)


@pytest.mark.parametrize("is_bool", [True, False], ids=["boolean mask", "additive mask"])
def test_masked_keys_have_no_share_and_do_not_count(is_bool):
    torch.manual_seed(0)
    query, key = torch.randn(1, 5, 3, 8), torch.randn(1, 12, 3, 8)
    mask = torch.arange(12).view(1, 1, 1, -1) < 9
    hidden = mask if is_bool else torch.zeros(1, 1, 1, 12).masked_fill(~mask, -torch.inf)
    masked = joint_shares(asked(query, key, hidden), [4, 8], ["image", "text"])
    for one, other in zip(masked, joint_shares(asked(query, key[:, :9]), [4, 5], ["image", "text"]), strict=True):
        assert torch.allclose(one, other, atol=TOLERANCE)


def test_a_query_that_may_look_at_nothing_is_in_no_conflict():
    nothing = torch.zeros(1, 1, 5, 12, dtype=torch.bool)
    call = asked(torch.randn(1, 5, 3, 8), torch.randn(1, 12, 3, 8), nothing)
    assert torch.equal(tiled_joint_conflict(call, [4, 8], ["image", "text"], 0.35, 1), torch.zeros(1, 3, 5))


@pytest.mark.parametrize("tile_logits", [1, 100, 10**9])
@pytest.mark.parametrize("rows", [1, 7], ids=["one mask", "a mask by query"])
def test_joint_tiles_change_nothing(tile_logits, rows):
    torch.manual_seed(0)
    call = asked(torch.randn(2, 7, 3, 8), 2 * torch.randn(2, 40, 3, 8), torch.rand(2, 1, rows, 40) < 0.8)
    whole = conflict(joint_shares(call, [20, 5, 15], ["image", "text", "video"]), cap=0.35)
    tiled = tiled_joint_conflict(call, [20, 5, 15], ["image", "text", "video"], 0.35, tile_logits)
    assert torch.allclose(tiled, whole, atol=TOLERANCE)
    assert whole.std() > 0.01


def slices(name: str, tokens: int) -> dict[str, slice]:
    """Where text and image keys lie among so many, by hand from the calls of the tiny pipelines."""
    match name:
        case "framepack_v1" | "framepack_f1":  # history, video | 16 of SigLIP | the text that is left
            return {"image": slice(tokens - 14 - 16, tokens - 14), "text": slice(tokens - 14, tokens)}
        case "hunyuan_i2v_token_replace":  # the first of three frames of 8 | text
            return {"image": slice(0, 8), "text": slice(24, tokens)}
    raise AssertionError(name)


class Largest(TorchDispatchMode):
    """The most numbers of a tensor that is made."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        self.most = max([self.most, *(part.numel() for part in tree_leaves(made) if isinstance(part, Tensor))])
        return made


@pytest.mark.parametrize("tokens", [256, 1024])
def test_no_tensor_of_joint_conflict_grows_with_the_square_of_the_tokens(tokens):
    call = asked(torch.randn(1, tokens, 2, 8), torch.randn(1, tokens, 2, 8))
    tile = 2**14
    with Largest() as largest:
        tiled_joint_conflict(call, [tokens // 2, tokens // 2], ["image", "text"], 0.35, tile)
    assert largest.most <= max(tile, call.query.numel())


@pytest.mark.parametrize(
    ("name", "stack"),
    [
        *((name, stack) for name in ("framepack_v1", "framepack_f1") for stack in STACKS),
        ("hunyuan_i2v_token_replace", STACKS[1]),  # in its first double block no query is in conflict
    ],
)
def test_joint_attention_is_the_softmax_of_the_scaled_rows(name, stack):
    pipe, call = BUILDERS[name]()
    path = f"{stack}.0.attn"
    plain = calls_of(pipe, call)[path]
    with alignvid.attach(pipe, EVERYWHERE, blocks={stack: [0]}):
        scaled = calls_of(pipe, call)[path]
    weights, where = plain.softmax(), slices(name, plain.key.shape[1])
    image, text = (weights[..., where[stream]].sum(-1) for stream in ("image", "text"))
    visible = torch.ones_like(weights) if plain.mask is None else plain.mask.expand_as(weights).float()
    entropy = -torch.special.xlogy(weights, weights).sum(-1) / visible.sum(-1).log()
    gain = 1 + ((image - text).clamp(min=0) / (image + text + 1e-6) * entropy).clamp(max=0.35)
    assert gain.max() > 1.01, "no query is in conflict: the test shows nothing"
    expected = plain.attended(plain.softmax(query=plain.query * gain.transpose(1, 2).unsqueeze(-1)))
    assert torch.allclose(scaled.output, expected, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["framepack_v1", "hunyuan_i2v_token_replace", "flux_kontext", "flux2_edit", "qwen_image_edit", "flux3_edit"]
)
def test_neutral_joint_conflict_is_bit_equal_and_another_is_not(name):
    pipe, call = BUILDERS[name]()
    expected = generate(pipe, call)
    with alignvid.attach(pipe, EVERYWHERE, gamma=1.0) as attachment:
        assert torch.equal(generate(pipe, call), expected)
    assert attachment.acted_count > 0
    with alignvid.attach(pipe, EVERYWHERE):
        assert not torch.equal(generate(pipe, call), expected)


def test_neutral_conflict_is_bit_equal():
    pipe, call = pipelines.wan_i2v()
    expected = generate(pipe, call)
    with alignvid.attach(pipe, EVERYWHERE, gamma=1.0) as attachment:
        assert torch.equal(generate(pipe, call), expected)
    assert attachment.acted_count > 0


def attentions_of(pipe: Any, call: dict[str, Any], monkeypatch: Any) -> list[tuple[Tensor, ...]]:
    """Query, key, value and output of every attention of a run, in order."""
    from diffusers.models.transformers import transformer_wan

    calls: list[tuple[Tensor, ...]] = []
    original = transformer_wan.dispatch_attention_fn

    def record(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        output = original(query, key, value, **options)
        calls.append((query, key, value, output))
        return output

    with monkeypatch.context() as patch:
        patch.setattr(transformer_wan, "dispatch_attention_fn", record)
        generate(pipe, call)
    return calls


def with_strong_image_keys(pipe: Any) -> None:
    """17 image keys against 512 text keys: without this the image never outweighs the text."""
    for block in pipe.transformer.blocks:
        block.attn2.norm_added_k.weight.data *= 8.0


def softmaxes(query: Tensor, *keys: Tensor) -> Tensor:
    """Weights over all keys together: batch, heads, query, key."""
    return (torch.einsum("bqhd,bkhd->bhqk", query, torch.cat(keys, 1)) / query.shape[-1] ** 0.5).softmax(-1)


@pytest.mark.parametrize("is_fused", [False, True], ids=["separate projections", "fused projections"])
@pytest.mark.parametrize("name", ["wan_i2v", "wan_flf2v"])
def test_both_attentions_are_the_softmax_of_the_scaled_rows(name, is_fused, monkeypatch):
    pipe, call = pipelines.BUILDERS[name]()
    with_strong_image_keys(pipe)
    if is_fused:
        pipe.transformer.fuse_qkv_projections()
    _, image, text, *_ = attentions_of(pipe, call, monkeypatch)  # of block 0: self, image, text
    with alignvid.attach(pipe, EVERYWHERE, blocks=[0]):
        _, scaled_image, scaled_text, *_ = attentions_of(pipe, call, monkeypatch)
    weights = softmaxes(image[0], image[1], text[1])
    image_mass = weights[..., : image[1].shape[1]].sum(-1)
    entropy = -(weights * weights.log()).nan_to_num().sum(-1) / math.log(weights.shape[-1])
    gain = 1 + ((2 * image_mass - 1).clamp(min=0) * entropy).clamp(max=0.35)
    assert gain.max() > 1.01, "no query is in conflict: the test shows nothing"
    for plain, scaled in ((image, scaled_image), (text, scaled_text)):
        query = plain[0] * gain.transpose(1, 2).unsqueeze(-1)
        expected = torch.einsum("bhqk,bkhd->bqhd", softmaxes(query, plain[1]), plain[2])
        assert torch.allclose(scaled[3], expected, atol=1e-5)


def test_only_chosen_blocks_steps_and_branch_are_changed():
    pipe, call = pipelines.wan_i2v()
    recipe = Recipe(ConflictAware(), BlockSet.of([1]), StepWindow.fraction(0.0, 0.3), "cond")
    with alignvid.attach(pipe, recipe) as attachment:
        changed = {
            name
            for name, module in pipe.transformer.named_modules()
            if hasattr(type(module), "_alignvid_base") and name
        }
        generate(pipe, call)
    assert changed == {"blocks.1.attn2", "blocks.1.attn2.norm_q"}
    assert (attachment.active_forward_count, attachment.forward_count) == (1, 6)


def test_detach_restores_classes_weights_and_output():
    pipe, call = pipelines.wan_i2v()
    with_strong_image_keys(pipe)
    expected = generate(pipe, call)
    classes = [type(module) for module in pipe.transformer.modules()]
    attributes = [set(vars(module)) for module in pipe.transformer.modules()]
    names = list(pipe.transformer.state_dict())
    with alignvid.attach(pipe, EVERYWHERE):
        assert list(pipe.transformer.state_dict()) == names
        assert not torch.equal(generate(pipe, call), expected)
    assert [type(module) for module in pipe.transformer.modules()] == classes
    assert [set(vars(module)) for module in pipe.transformer.modules()] == attributes
    assert torch.equal(generate(pipe, call), expected)


def wan_inputs(timestep: float, batch: int = 1) -> dict[str, Any]:
    torch.manual_seed(1)
    return {
        "hidden_states": torch.randn(batch, 36, 3, 2, 4),
        "timestep": torch.full((batch,), timestep),
        "encoder_hidden_states": torch.randn(batch, 512, 32),
        "encoder_hidden_states_image": torch.randn(batch, 17, 4),
        "return_dict": False,
    }


@torch.no_grad()
def test_samples_of_a_batch_can_be_switched_off_one_by_one():
    pipe, _ = pipelines.wan_i2v()
    with_strong_image_keys(pipe)
    inputs = wan_inputs(990.0, batch=2)
    (plain,) = pipe.transformer(**inputs)
    recipe = EVERYWHERE.override(branch="cond")
    with alignvid.attach(pipe.transformer, recipe), pipe.transformer.cache_context("cond_uncond"):
        (scaled,) = pipe.transformer(**inputs)
    assert torch.equal(scaled[0], plain[0]) and not torch.allclose(scaled[1], plain[1])


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.usefixtures("unchecked_types")
def test_compiled_is_eager_in_two_graphs_without_a_break():
    pipe, _ = pipelines.wan_i2v()
    with_strong_image_keys(pipe)
    transformer = pipe.transformer
    early, late = wan_inputs(990.0), wan_inputs(100.0)
    recipe = EVERYWHERE.override(steps=StepWindow.noise_above(0.9))
    assert graphs_as_eager(transformer, recipe, [early, late, early]) == 2


def test_attachment_tells_the_modulation():
    pipe, _ = pipelines.wan_i2v()
    with alignvid.attach(pipe, EVERYWHERE) as attachment:
        assert "cross.text x1 to x1.35 by conflict" in str(attachment)
        assert attachment.to_dict()["recipe"]["modulation"] == {"kind": "conflict-aware", "gamma": 1.35}
        assert attachment.site_count == 3


def test_conflict_round_trips():
    assert Recipe.from_dict(EVERYWHERE.to_dict()) == EVERYWHERE


def test_gamma_overrides_the_largest_gain():
    assert EVERYWHERE.override(gamma=1.2).modulation == ConflictAware(1.2)


def test_a_largest_gain_below_one_is_refused():
    with pytest.raises(ModulationError, match=r"largest of gains that begin at 1, but 0\.9 was given"):
        EVERYWHERE.override(gamma=0.9)


def test_streams_are_refused_because_a_row_holds_both():
    pipe, _ = pipelines.wan_i2v()
    with pytest.raises(ModulationError, match=r"'conflict-aware' has no powers .*streams=.*; it has gamma"):
        alignvid.attach(pipe, EVERYWHERE, streams=["text"])


def test_unknown_setting_is_refused():
    with pytest.raises(ModulationError, match="no field 'cap'; its fields are gamma"):
        from_dict({"kind": "conflict-aware", "cap": 0.35})


@pytest.mark.parametrize("name", ["wan_t2v", "wan22_i2v", "wan22_ti2v_5b", "wan_vace", "hunyuan_t2v"])
def test_a_model_that_meets_no_image_keys_beside_text_is_refused_with_the_reason(name):
    pipe, _ = pipelines.BUILDERS[name]()
    with pytest.raises(UnknownTarget, match=r"No attention of .* at once; it has .*compares text and image keys that"):
        alignvid.attach(pipe, EVERYWHERE)
