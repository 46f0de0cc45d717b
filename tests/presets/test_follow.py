"""The slider between picture and prompt."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

import alignvid
from alignvid.errors import RecipeError
from alignvid.presets.follow import recipe_at
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
