"""Energy-based gain: the formulas by hand, then on real pipelines against dense attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import alignvid
import pipelines
import video_pipelines
from alignvid.attachment.effects.energy import (
    EnergyGain,
    QueryMean,
    TokenMean,
    energy_gain,
    mean_energy,
    mean_per_head,
    scaled_per_head,
)
from alignvid.blocks import BlockSet
from alignvid.errors import AttachmentError, ModulationError
from alignvid.models import Family, KeyNorm
from alignvid.modulation import Energy, Scalar, from_dict
from alignvid.recipe import Recipe
from alignvid.schedule import StepWindow
from compiling import graphs_as_eager
from pipelines import generate

STEEP = Energy(gamma=2.0, low=0.5, centre=0.1, width=0.5, powers={"*.*": 1.0})
TOLERANCE = 1e-6  # float32 keeps 6e-8 of values around 1


def everywhere(modulation: Any) -> Recipe:
    return Recipe(modulation, BlockSet.of("all"), StepWindow.all())


def test_mean_energy_of_two_queries_and_two_keys():
    queries, keys = torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.tensor([[2.0, 2.0], [4.0, -2.0]])
    # q·k: 2, 4 and 6, -6; their mean is 1.5
    assert mean_energy(queries.mean(0), keys.mean(0)).item() == pytest.approx(1.5 / 2**0.5)


def test_mean_energy_is_the_mean_of_the_dense_logits():
    torch.manual_seed(0)
    queries, keys = torch.randn(2, 7, 3, 8), torch.randn(2, 5, 3, 8)
    dense = torch.einsum("bqhd,bkhd->bhqk", queries, keys) / 8**0.5
    energy = mean_energy(mean_per_head(queries, 1, 3), mean_per_head(keys, 1, 3))
    assert torch.allclose(energy, dense.mean((2, 3)), atol=TOLERANCE)


def test_gain_falls_with_energy_between_its_bounds():
    gain = energy_gain(torch.linspace(-9, 9, 101, dtype=torch.float64), STEEP)
    assert (gain.diff() < 0).all()
    assert gain[0].item() == pytest.approx(2.0) and gain[-1].item() == pytest.approx(0.5)
    assert ((gain >= 0.5) & (gain <= 2.0)).all()


def test_gain_lies_midway_at_the_centre():
    assert energy_gain(torch.tensor(0.1), STEEP).item() == pytest.approx(1.25)


@pytest.mark.parametrize(
    "shape", [(2, 5, 6), (2, 5, 3, 2), (2, 3, 5, 2)], ids=["across heads", "per head", "heads first"]
)
def test_each_head_of_each_sample_has_its_own_gain(shape):
    sequence_dim = 2 if shape[1] == 3 else 1
    gain = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    scaled = scaled_per_head(torch.ones(shape), gain, sequence_dim)
    assert torch.equal(mean_per_head(scaled, sequence_dim, 3), gain.unsqueeze(-1).expand(2, 3, 2))


@pytest.mark.parametrize("name", pipelines.BUILDERS)
def test_neutral_energy_is_bit_equal(name):
    pipe, call = pipelines.BUILDERS[name]()
    expected = generate(pipe, call)
    with alignvid.attach(pipe, everywhere(Energy(gamma=1.0, low=1.0, powers={"*.*": 2.0}))) as attachment:
        assert torch.equal(generate(pipe, call), expected)
    assert attachment.acted_count > 0


@pytest.mark.parametrize("name", ["wan_i2v", "hunyuan_i2v_token_replace", "framepack_v1"])
def test_equal_bounds_are_the_scalar(name):
    pipe, call = pipelines.BUILDERS[name]()
    powers = {"*.text": 2.0, "*.image": 1.0}
    with alignvid.attach(pipe, everywhere(Scalar(1.35, powers))):
        expected = generate(pipe, call)
    with alignvid.attach(pipe, everywhere(Energy(gamma=1.35, low=1.35, powers=powers))):
        assert torch.allclose(generate(pipe, call), expected, atol=1e-5)  # 1.35² in float32, through three blocks


@pytest.mark.parametrize("name", ["ltx_t2v", "motif_i2v", "sana_wm", "sana_wm_refiner"])
def test_padding_of_the_text_is_no_padding_of_the_queries_of_cross_attention(name):
    pipe, call = video_pipelines.BUILDERS[name]()
    with alignvid.attach(pipe, everywhere(Scalar(1.35, {"cross.text": 1.0}))):
        expected = generate(pipe, call)
    with alignvid.attach(pipe, everywhere(Energy(gamma=1.35, low=1.35, powers={"cross.text": 1.0}))):
        assert torch.allclose(generate(pipe, call), expected, atol=1e-5)


def outputs_of(pipe: Any, call: dict[str, Any], *paths: str) -> list[Tensor]:
    """What the named modules give in the first forward of a run."""
    seen: dict[str, Tensor] = {}
    hooks = [
        pipe.transformer.get_submodule(path).register_forward_hook(
            lambda module, args, output, path=path: (seen.setdefault(path, output.detach().clone()), None)[1]
        )
        for path in paths
    ]
    generate(pipe, call)
    for hook in hooks:
        hook.remove()
    return [seen[path] for path in paths]


def dense_gain(queries: Tensor, keys: Tensor, heads: int) -> Tensor:
    """γ_e by sample and head, from every pair of a query and a key."""
    queries, keys = (tokens.reshape(*tokens.shape[:2], heads, -1) for tokens in (queries, keys))
    energy = (torch.einsum("bqhd,bkhd->bhqk", queries, keys) / queries.shape[-1] ** 0.5).mean((2, 3))
    return 0.5 + 1.5 * torch.sigmoid((0.1 - energy) / 0.5)


@pytest.mark.parametrize(
    ("name", "site", "attention", "keys"),
    [
        ("wan_i2v", "cross", "blocks.0.attn2", "norm_k"),
        ("wan_i2v", "cross", "blocks.0.attn2", "norm_added_k"),
        ("wan_t2v", "self", "blocks.0.attn1", "norm_k"),
        ("hunyuan_t2v", "single", "single_transformer_blocks.0.attn", "norm_k"),
        ("hunyuan_t2v", "double", "transformer_blocks.0.attn", "norm_added_k"),
        ("framepack_v1", "single", "single_transformer_blocks.0.attn", "norm_k"),
    ],
)
def test_keys_are_scaled_by_the_gain_of_the_dense_energy(name, site, attention, keys):
    pipe, call = pipelines.BUILDERS[name]()
    stack = attention.split(".")[0]
    plain_queries, plain_keys = outputs_of(pipe, call, f"{attention}.norm_q", f"{attention}.{keys}")
    recipe = Recipe(Energy(2.0, 0.5, 0.1, 0.5, {f"{site}.*": 1.0}), BlockSet.of({stack: [0]}), StepWindow.all())
    with alignvid.attach(pipe, recipe):
        (scaled,) = outputs_of(pipe, call, f"{attention}.{keys}")
    if name == "hunyuan_t2v":  # 24 text tokens, 18 of them valid, come last in what holds text
        plain_queries = plain_queries[:, :-6] if site == "single" else plain_queries
        gain = dense_gain(plain_queries, plain_keys[:, :-6], heads=2)
    else:
        gain = dense_gain(plain_queries, plain_keys, heads=2)
    assert gain.std() > 1e-4, "both heads have the same energy: the test shows nothing"
    assert torch.allclose(scaled, scaled_per_head(plain_keys, gain, 1), atol=1e-5)


def test_cross_attention_is_the_softmax_of_the_scaled_logits(monkeypatch):
    from diffusers.models.transformers import transformer_wan

    pipe, call = pipelines.wan_t2v()
    calls: list[tuple[Tensor, ...]] = []
    original = transformer_wan.dispatch_attention_fn

    def record(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        output = original(query, key, value, **options)
        calls.append((query, key, value, output))
        return output

    monkeypatch.setattr(transformer_wan, "dispatch_attention_fn", record)
    generate(pipe, call)
    query, key, value, _ = calls[1]  # the first block's cross-attention comes after its self-attention
    with alignvid.attach(pipe, everywhere(Energy(2.0, 0.5, 0.1, 0.5, {"cross.text": 1.0}))):
        calls.clear()
        generate(pipe, call)
    gain = dense_gain(query.flatten(2), key.flatten(2), heads=2)
    logits = gain[:, :, None, None] * torch.einsum("bqhd,bkhd->bhqk", query, key) / query.shape[-1] ** 0.5
    expected = torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), value)
    assert torch.allclose(calls[1][3], expected, atol=TOLERANCE)


def test_streams_of_one_norm_have_their_own_powers():
    pipe, call = pipelines.framepack_v1()
    path = "single_transformer_blocks.0.attn"
    plain_queries, plain_keys = outputs_of(pipe, call, f"{path}.norm_q", f"{path}.norm_k")
    modulation = Energy(2.0, 0.5, 0.1, 0.5, {"single.text": 2.0, "single.image": 1.0})
    with alignvid.attach(pipe, Recipe(modulation, BlockSet.of({"single_transformer_blocks": [0]}), StepWindow.all())):
        (scaled,) = outputs_of(pipe, call, f"{path}.norm_k")
    gain = dense_gain(plain_queries, plain_keys, heads=2)
    rest, image, text = plain_keys.split([plain_keys.shape[1] - 30, 16, 14], 1)  # 16 SigLIP and 14 valid text tokens
    expected = torch.cat([rest, scaled_per_head(image, gain, 1), scaled_per_head(text, gain**2, 1)], 1)
    assert torch.allclose(scaled, expected, atol=1e-5)


def test_only_chosen_blocks_steps_and_branch_are_changed():
    pipe, call = pipelines.wan_i2v()
    recipe = Recipe(STEEP, BlockSet.of([1]), StepWindow.fraction(0.0, 0.3), "cond")
    with alignvid.attach(pipe, recipe) as attachment:
        changed = [
            name
            for name, module in pipe.transformer.named_modules()
            if hasattr(type(module), "_alignvid_base") and name
        ]
        generate(pipe, call)
    assert {name.split(".")[1] for name in changed} == {"1"}
    assert (attachment.active_forward_count, attachment.forward_count) == (1, 6)  # step 0 of 3, one of two passes


def test_detach_restores_classes_weights_and_output():
    pipe, call = pipelines.framepack_v1()
    expected = generate(pipe, call)
    classes = [type(module) for module in pipe.transformer.modules()]
    attributes = [set(vars(module)) for module in pipe.transformer.modules()]
    names = list(pipe.transformer.state_dict())
    with alignvid.attach(pipe, everywhere(STEEP)):
        assert list(pipe.transformer.state_dict()) == names
        assert not torch.equal(generate(pipe, call), expected)
    assert [type(module) for module in pipe.transformer.modules()] == classes
    assert [set(vars(module)) for module in pipe.transformer.modules()] == attributes
    assert torch.equal(generate(pipe, call), expected)


def wan_inputs(batch: int) -> dict[str, Any]:
    torch.manual_seed(1)
    return {
        "hidden_states": torch.randn(batch, 36, 3, 2, 4),
        "timestep": torch.full((batch,), 990.0),
        "encoder_hidden_states": torch.randn(batch, 512, 32),
        "encoder_hidden_states_image": torch.randn(batch, 17, 4),
        "return_dict": False,
    }


@torch.no_grad()
def test_samples_of_a_batch_do_not_see_each_others_energy():
    transformer = pipelines.wan_i2v()[0].transformer
    inputs = wan_inputs(2)
    with alignvid.attach(transformer, everywhere(STEEP)):
        (together,) = transformer(**inputs)
        alone = [
            transformer(**{name: value[[i]] if torch.is_tensor(value) else value for name, value in inputs.items()})[0]
            for i in range(2)
        ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def a_gain() -> tuple[QueryMean, EnergyGain]:
    take = TokenMean(KeyNorm("norm_k", ("text",)), 2, Family("none", (), ()))
    queries = QueryMean(take)
    return queries, EnergyGain(STEEP, (("text", 1.0),), take, queries, is_last=True)


def test_a_sample_that_is_switched_off_keeps_its_keys():
    queries, gain = a_gain()
    keys = torch.randn(2, 3, 8)
    queries.on_output(torch.randn(2, 5, 8))
    gain.set_active_samples([False, True])
    scaled = gain.on_output(keys)
    assert torch.equal(scaled[0], keys[0]) and not torch.allclose(scaled[1], keys[1])


def test_keys_without_queries_are_refused_not_scaled_by_a_stale_energy():
    queries, gain = a_gain()
    queries.on_output(torch.randn(2, 5, 8))
    gain.on_output(torch.randn(2, 3, 8))
    with pytest.raises(AttachmentError, match="before the queries"):
        gain.on_output(torch.randn(2, 3, 8))


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.usefixtures("unchecked_types")
def test_compiled_is_eager_in_one_graph_without_a_break():
    transformer = pipelines.wan_i2v()[0].transformer
    early, late = wan_inputs(1), {**wan_inputs(1), "timestep": torch.tensor([100.0])}
    recipe = Recipe(STEEP, BlockSet.of([0, 2]), StepWindow.noise_above(0.9))
    assert graphs_as_eager(transformer, recipe, [early, late, early]) == 1


def test_attachment_tells_the_modulation():
    pipe, _ = pipelines.wan_i2v()
    with alignvid.attach(pipe, everywhere(Energy(powers={"cross.text": 2.0, "cross.image": 1.0}))) as attachment:
        assert "cross.text x1 to x1.823 by energy, cross.image x1 to x1.35 by energy" in str(attachment)
        assert attachment.to_dict()["recipe"]["modulation"]["kind"] == "energy"
        assert attachment.gains == pytest.approx({"cross.text": 1.8225, "cross.image": 1.35})


def test_energy_round_trips():
    assert from_dict(STEEP.to_dict()) == STEEP
    assert Recipe.from_dict(everywhere(STEEP).to_dict()) == everywhere(STEEP)


def test_gamma_overrides_the_largest_gain():
    changed = everywhere(STEEP).override(gamma=3.0, powers={"cross.text": 1.0})
    assert changed.modulation == Energy(3.0, 0.5, 0.1, 0.5, {"cross.text": 1.0})


def test_gamma_below_the_smallest_gain_is_refused():
    with pytest.raises(ModulationError, match=r"low=1\.0 must be positive and at most the largest, gamma=0\.9"):
        everywhere(Energy()).override(gamma=0.9)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"gamma": float("nan")}, "field 'gamma' is nan; it must be a finite number"),
        ({"low": 0.0}, r"low=0\.0 must be positive"),
        ({"low": "1"}, "field 'low' is '1'; it must be a finite number"),
        ({"centre": float("inf")}, "field 'centre' is inf; it must be a finite number"),
        ({"width": 0.0}, "width must be a finite positive number"),
        ({"powers": {}}, "acts on nothing"),
        ({"sigma": 1.0}, "no field 'sigma'; its fields are gamma, low, centre, width, powers, is_rotated"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(settings, said):
    with pytest.raises(ModulationError, match=said):
        from_dict({"kind": "energy", **settings})
