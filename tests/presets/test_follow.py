"""The slider between picture and prompt."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

import alignvid
from alignvid import BlockSet, Recipe, Scalar, StepWindow
from alignvid.errors import ModulationError, RecipeError
from alignvid.host.diffusers import DIFFUSERS
from alignvid.miniature import load_pipeline
from alignvid.presets.follow import recipe_at
from five import BUILDERS as FIVE
from pipelines import BUILDERS, generate

PLACES = (-1.0, -0.5, -0.25, 0.25, 0.5, 1.0)


def output(pipe, call) -> torch.Tensor:
    return generate(pipe, call)


def test_zero_is_the_model_as_it_is():
    pipe, call = BUILDERS["wan_i2v"]()
    expected = output(pipe, call)
    with alignvid.attach(pipe, follow=0) as attachment:
        assert torch.equal(output(pipe, call), expected)
    assert set(attachment.gains.values()) == {1.0}


@pytest.mark.parametrize("follow", PLACES)
def test_text_keys_have_the_sign_of_the_slider_and_keys_of_the_picture_the_other(follow):
    pipe, _ = BUILDERS["wan_i2v"]()
    with alignvid.attach(pipe, follow=follow) as attachment:
        gains = attachment.gains
    assert math.log(gains["cross.text"]) * follow > 0
    assert math.log(gains["cross.image"]) * follow < 0
    assert f"follow {follow:+g}" in str(attachment)


def test_equal_distances_are_equal_factors():
    gains = [recipe_at(follow, "wan").modulation.gamma for follow in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    assert [later / earlier for earlier, later in pairwise(gains)] == pytest.approx([2**0.5] * 4)


@pytest.mark.parametrize("steps", [2, 4])
def test_it_acts_in_every_step_of_a_distilled_model(steps):
    pipe, call = BUILDERS["wan_i2v"]()
    with alignvid.attach(pipe, follow=0.5) as attachment:
        generate(pipe, call, num_inference_steps=steps)
    assert attachment.active_forward_count == attachment.forward_count


POWERS = recipe_at(1.0, "wan").modulation.powers


@pytest.mark.parametrize(
    ("name", "follow", "guidance", "gain"),
    [
        ("wan_i2v", 1.0, 3.0, 2 ** (1 / 3)),
        ("wan_i2v", 0.5, 1.0, 2**0.5),
        ("wan_i2v", -1.0, 3.0, 0.5),
        ("cogvideox_i2v", 1.0, 6.0, 2 ** (1 / 6)),
    ],
    ids=["a pass each", "no guidance", "towards the picture", "both in one batch"],
)
def test_guidance_of_scale_s_leaves_the_s_th_root_of_the_upper_half(name, follow, guidance, gain):
    pipe, call = FIVE[name]()
    by_hand = Recipe(Scalar(gain, POWERS), BlockSet.of("all"), StepWindow.all())
    with alignvid.attach(pipe, by_hand):
        expected = generate(pipe, call, guidance_scale=guidance)
    with alignvid.attach(pipe, follow=follow, strict=True) as attachment:
        assert torch.equal(generate(pipe, call, guidance_scale=guidance), expected)
    is_shared = follow > 0 and guidance > 1
    assert (f"with guidance {guidance:g} each gain to the power {1 / guidance:.3g}" in str(attachment)) == is_shared


def test_each_expert_of_wan_2_2_shares_with_its_own_scale():
    pipe, call = BUILDERS["wan22_i2v"]()
    seen = set()

    def look(pipe, step, timestep, kwargs):
        seen.add(tuple(DIFFUSERS.guidance_strength(pipe, name) for name in ("transformer", "transformer_2")))
        return kwargs

    generate(pipe, call, guidance_scale=3.0, guidance_scale_2=2.0, callback_on_step_end=look)
    assert seen == {(3.0, 2.0)}


def test_what_shares_with_guidance_says_so_and_reads_back():
    recipe = recipe_at(0.5, "wan")
    assert recipe.to_dict()["modulation"]["shares_with_guidance"] is True
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert recipe.modulation.words(1.0) == "x1.414, under guidance s its s-th root"
    assert "shares_with_guidance" not in recipe_at(-0.5, "wan").to_dict()["modulation"]


def test_a_gain_on_single_tokens_cannot_be_shared():
    pipe = load_pipeline()
    with pytest.raises(ModulationError, match="for gains on whole streams, and words and padding are parts"):
        alignvid.attach(pipe, Scalar(1.5, {"cross.padding": 1.0}, shares_with_guidance=True))


@pytest.mark.parametrize("name", BUILDERS)
def test_it_attaches_to_every_pipeline_and_moves_its_output(name):
    pipe, call = BUILDERS[name]()
    expected = output(pipe, call)
    with alignvid.attach(pipe, follow=1):
        assert not torch.equal(output(pipe, call), expected)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"gamma": 1.5}, "gamma"),
        ({"streams": ["text"]}, "streams"),
        ({"preset_or_recipe": "generic"}, "preset"),
        ({"preset_or_recipe": alignvid.Recipe()}, "preset"),
    ],
    ids=["gamma", "streams", "preset", "recipe"],
)
def test_what_it_takes_the_place_of_is_refused_beside_it(other, named):
    pipe, _ = BUILDERS["wan_i2v"]()
    with pytest.raises(RecipeError, match=f"{named} says nothing beside it; leave one of them out"):
        alignvid.attach(pipe, follow=0.5, **other)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("follow", [1.01, -2, math.nan, math.inf, "0.5", True], ids=repr)
def test_a_place_outside_the_slider_is_refused(follow):
    pipe, _ = BUILDERS["wan_i2v"]()
    with pytest.raises(RecipeError, match=r"a number from -1 \(the picture\) to 1"):
        alignvid.attach(pipe, follow=follow)


def test_blocks_steps_and_words_go_with_it():
    pipe, _ = BUILDERS["wan_i2v"]()
    with alignvid.attach(pipe, follow=0.5, blocks=[0], steps=(0.0, 0.5), branch="cond") as attachment:
        assert attachment.blocks("transformer") == {"blocks": "0"}
        assert attachment.recipe.branch == "cond"
