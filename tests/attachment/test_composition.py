"""A recipe of several modulations, each with its own blocks, window and branch, in a stated order."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import alignvid
from alignvid import BlockSet, Energy, LogBias, Recipe, Scalar, StepWindow
from alignvid.errors import RecipeError
from alignvid.modulation import ConflictAware
from compiling import CountedGraphs, compile_regions
from pipelines import generate
from registry import BUILDERS

ALL = StepWindow.all()


def gain(gamma: float, target: str, blocks: Any = "all", steps: StepWindow = ALL, branch: Any = "both") -> Recipe:
    return Recipe(Scalar(gamma, {target: 1.0}), BlockSet.of(blocks), steps, branch)


def made(name: str, recipe: Recipe) -> torch.Tensor:
    pipe, call = BUILDERS[name]()
    with alignvid.attach(pipe, recipe):
        return generate(pipe, call)


FAMILIES = {
    "wan_i2v": ("cross.text", "cross.image"),
    "hunyuan_t2v": ("double.text", "double.video"),
    "framepack_v1": ("single.text", "single.image"),
    "sd3": ("double.text", "double.video"),
    "z_image": ("single.text", "single.video"),
    "qwen_image": ("double.text", "double.video"),
    "cogvideox_i2v": ("single.text", "single.video"),
}


def targets_of(name: str) -> tuple[str, str]:
    """Two targets of the family, the names of its sites as they are."""
    from alignvid.host import hosts
    from alignvid.host.sites import targets_of as known

    first, second = FAMILIES[name]
    there = known(hosts(BUILDERS[name]()[0])[0])
    site = first.partition(".")[0] if first in there else there[0].partition(".")[0]
    return f"{site}.{first.partition('.')[2]}", f"{site}.{second.partition('.')[2]}"


@pytest.mark.contract(
    "composition",
    done="two gains on one target, or on two streams of one norm",
    guaranteed="they multiply; each is as alone on its own stream",
)
@pytest.mark.parametrize("name", FAMILIES)
def test_two_gains_on_one_target_multiply(name):
    text, other = targets_of(name)
    together = gain(1.5, text)
    together = Recipe(together.modulation, together.blocks, together.steps, then=(gain(2.0, text), gain(1.25, other)))
    expected = Recipe(Scalar(2.0, {text: 1.5849625007211562, other: 0.32192809488736235}), BlockSet.of("all"), ALL)
    assert torch.allclose(made(name, together), made(name, expected), atol=1e-4)


@pytest.mark.contract(
    "composition", done="a part that is neutral", guaranteed="identity: bit-equal to the recipe without it"
)
@pytest.mark.parametrize("name", ["wan_i2v", "sd3", "framepack_v1"])
def test_a_neutral_part_is_identity(name):
    text, other = targets_of(name)
    alone = gain(1.5, text)
    with_neutral = Recipe(alone.modulation, alone.blocks, alone.steps, then=(gain(1.0, other), gain(1.0, text)))
    assert torch.equal(made(name, with_neutral), made(name, alone))


@pytest.mark.contract(
    "composition",
    done="parts with blocks, windows and branches of their own",
    guaranteed="each acts in its own, as two runs that are put together by hand",
)
def test_each_part_has_its_own_blocks_and_window():
    pipe, call = BUILDERS["wan_i2v"]()
    early, late = StepWindow.fraction(0.0, 0.5), StepWindow.fraction(0.5, 1.0)
    recipe = Recipe(
        Scalar(2.0, {"cross.text": 1.0}), BlockSet.of([0]), early, then=(gain(3.0, "cross.image", [1], late, "cond"),)
    )
    gains: list[tuple[bool, bool]] = []

    def note(module: Any, args: Any) -> None:
        calls = [
            vars(
                pipe.transformer.blocks[block].attn2.norm_k
                if block == 0
                else pipe.transformer.blocks[block].attn2.norm_added_k
            )["_alignvid_effect"][0]
            for block in (0, 1)
        ]
        gains.append((calls[0].now.is_active, calls[1].now.is_active))

    handle = pipe.transformer.blocks[0].register_forward_pre_hook(note)
    with alignvid.attach(pipe, recipe) as attachment:
        generate(pipe, call, num_inference_steps=4)
    handle.remove()
    assert gains == [(True, False)] * 4 + [(False, True), (False, False)] * 2
    assert ", then transformer blocks 1 of `blocks`; 50% to 100% of the steps; CFG branch cond" in str(attachment)
    assert attachment.gains == {"cross.text": 2.0, "cross.image": 3.0}


def test_a_gain_and_a_bias_on_one_stream_are_both_there():
    text = "double.text"
    bias = Recipe(LogBias(3.0, {text: 1.0}), BlockSet.of("all"), ALL)
    both = Recipe(Scalar(2.0, {text: 1.0}), BlockSet.of("all"), ALL, then=(bias,))
    outputs = [made("hunyuan_t2v", recipe) for recipe in (both, bias, gain(2.0, text))]
    swapped = made("hunyuan_t2v", Recipe(bias.modulation, bias.blocks, ALL, then=(gain(2.0, text),)))
    assert torch.allclose(outputs[0], swapped, atol=1e-6)  # a gain and a bias commute
    assert all((outputs[0] - alone).abs().max() > 1e-3 for alone in outputs[1:])


@pytest.mark.contract(
    "composition",
    done="conflict-aware scaling and another modulation in one attention",
    refused="refused: one looks at keys that the other changes",
)
def test_what_cannot_be_combined_is_refused():
    pipe, _ = BUILDERS["wan_i2v"]()
    recipe = Recipe(ConflictAware(), BlockSet.of("all"), ALL, then=(gain(2.0, "cross.text"),))
    with pytest.raises(RecipeError, match="act on the same attention, 'cross' of block 0 of `blocks`"):
        alignvid.attach(pipe, recipe)
    apart = Recipe(ConflictAware(), BlockSet.of([0]), ALL, then=(gain(2.0, "cross.text", [1]),))
    alignvid.attach(pipe, apart).detach()


def test_an_energy_beside_a_gain_measures_the_keys_as_the_gain_left_them():
    scaled = Recipe(
        Scalar(2.0, {"cross.text": 1.0}), BlockSet.of("all"), ALL, then=(Recipe(Energy(1.5), BlockSet.of("all"), ALL),)
    )
    before = Recipe(Energy(1.5), BlockSet.of("all"), ALL, then=(gain(2.0, "cross.text"),))
    assert (made("wan_i2v", scaled) - made("wan_i2v", before)).abs().max() > 1e-6  # the order is the stated one


def test_detaching_leaves_the_model_as_it_was():
    pipe, call = BUILDERS["sd3"]()
    expected = generate(pipe, call)
    text, other = targets_of("sd3")
    with alignvid.attach(pipe, Recipe(Scalar(2.0, {text: 1.0}), then=(gain(1.5, other), gain(0.7, text)))):
        assert not torch.equal(generate(pipe, call), expected)
    assert torch.equal(generate(pipe, call), expected)


@pytest.mark.usefixtures("unchecked_types", "fresh_dynamo")
def test_compiled_it_is_as_eager_without_a_graph_at_an_edge():
    pipe, call = BUILDERS["wan_i2v"]()
    late = StepWindow.fraction(0.5, 1.0)
    recipe = Recipe(
        Scalar(2.0, {"cross.text": 1.0}), BlockSet.of("all"), ALL, then=(gain(3.0, "cross.text", "all", late),)
    )
    with alignvid.attach(pipe, recipe):
        expected = generate(pipe, call, num_inference_steps=4)
    graphs = CountedGraphs()
    with alignvid.attach(pipe, recipe):
        compile_regions(pipe, backend=graphs)
        assert torch.allclose(generate(pipe, call, num_inference_steps=4), expected, atol=1e-5)
    assert graphs.count <= 2


def test_a_recipe_of_several_parts_is_read_back_as_it_was_written():
    recipe = Recipe(
        Scalar(2.0, {"cross.text": 1.0}), then=(gain(3.0, "cross.image"), Recipe(LogBias(2.0, {"*.text": 1.0})))
    )
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert "then" not in gain(2.0, "cross.text").to_dict()  # ids of jobs made before stay
    nested = Recipe(Scalar(2.0), then=(Recipe(Scalar(1.5), then=(Recipe(Scalar(1.25)),)),))
    assert [part.gamma for part in nested.parts] == [2.0, 1.5, 1.25]


def test_an_override_of_one_of_several_is_refused():
    with pytest.raises(RecipeError, match="gamma cannot be overridden in a recipe of 2 modulations"):
        Recipe(Scalar(2.0), then=(Recipe(),)).override(gamma=1.5)


def test_then_holds_recipes():
    with pytest.raises(RecipeError, match="then holds recipes, but"):
        Recipe(Scalar(2.0), then=(Scalar(1.5),))
