import json
import math

import pytest

from alignvid.errors import AlignvidError, InputError, ModulationError, RecipeError, ScheduleError
from alignvid.generate import GenerationSpec
from alignvid.schedule import StepWindow


def test_a_spec_survives_json():
    spec = GenerationSpec(prompt="a cat", gamma=1.5, steps_window="noise>0.9", blocks="0,2-7", streams="text", seed=3)
    assert GenerationSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_an_unknown_field_is_refused_by_name():
    with pytest.raises(InputError, match=r"no field 'gama'; its fields are model, steps"):
        GenerationSpec.from_dict({"prompt": "a cat", "gama": 1.5})


def test_a_spec_without_a_prompt_is_refused():
    with pytest.raises(InputError, match="lacks the field 'prompt'"):
        GenerationSpec.from_dict({"seed": 1})


@pytest.mark.parametrize("gamma", [0, -1, math.nan, math.inf])
def test_an_impossible_gamma_is_refused(gamma):
    with pytest.raises(ModulationError, match="gamma must be a finite positive number"):
        GenerationSpec(prompt="a cat", gamma=gamma)


@pytest.mark.parametrize(
    ("field", "value", "error", "message"),
    [
        ("steps_window", "0.3-0.3", ScheduleError, "contains no step"),
        ("steps_window", "early", ScheduleError, "not a step window"),
        ("blocks", "1,x", ScheduleError, "not a set of blocks"),
        ("blocks", "single=", ScheduleError, "empty"),
        ("streams", ",", RecipeError, "names no stream"),
        ("branch", "neither", InputError, "choose one of both, cond, uncond"),
        ("emphasise", "dog:1.6", InputError, "'dog' is not in the prompt 'a cat'; the nearest there: a, cat"),
        ("emphasise", "cat", InputError, "write for example 'sunglasses:1.6, red:1.3'"),
        ("emphasise", "cat:heavy", InputError, "not a word with its weight"),
        ("emphasise", "cat:-1", ModulationError, "finite positive number"),
        ("emphasise", " , ", InputError, "names no word"),
        ("dtype", "float8", InputError, "choose one of float32, bfloat16, float16"),
        ("offload", "disk", InputError, "choose one of none, model, sequential"),
        ("seed", -1, InputError, "out of range"),
        ("steps", 0, InputError, "out of range; choose a number from 1"),
        ("frames", 0, InputError, "out of range"),
        ("guidance", math.nan, InputError, "out of range"),
        ("fps", 0, InputError, "out of range"),
        ("max_pixels", 0, InputError, "out of range"),
    ],
)
def test_an_impossible_value_is_refused_with_what_is_allowed(field, value, error, message):
    with pytest.raises(error, match=message):
        GenerationSpec(prompt="a cat", **{field: value})


def test_a_side_that_no_model_can_make_is_refused_with_its_neighbours():
    with pytest.raises(InputError, match="width 100 is not a multiple of 16; choose 96 or 112"):
        GenerationSpec(prompt="a cat", width=100, height=96)


def test_a_width_without_a_height_is_refused():
    with pytest.raises(InputError, match="belong together"):
        GenerationSpec(prompt="a cat", width=96)


@pytest.mark.parametrize("field", ["preset", "blocks", "steps_window", "streams", "branch"])
def test_what_a_recipe_says_is_not_said_beside_it(field):
    value = {"steps_window": "all", "branch": "both", "blocks": "all"}.get(field, "text")
    with pytest.raises(InputError, match=f"{field} says nothing beside it; write it into the recipe"):
        GenerationSpec(prompt="a cat", recipe="gamma=1.5", **{field: value})


def test_a_spec_gives_the_arguments_of_attach():
    spec = GenerationSpec(
        prompt="a cat", gamma=1.5, steps_window="0.0-0.5", blocks="a=0,2;b=all", streams="text, image"
    )
    overrides = spec.recipe_overrides
    assert overrides["steps"] == StepWindow.fraction(0.0, 0.5)
    assert overrides["blocks"].to_dict() == {"a": "0,2", "b": "all"}
    assert overrides["streams"] == ["text", "image"]


def test_words_with_weights_are_read_from_one_line():
    spec = GenerationSpec(prompt="a red cat puts on sunglasses", emphasise="sunglasses:1.6, red cat:1.3")
    assert spec.recipe_overrides["words"] == {"sunglasses": 1.6, "red cat": 1.3}


def test_an_open_spec_overrides_nothing():
    assert set(GenerationSpec(prompt="a cat").recipe_overrides.values()) == {None}


def test_a_bad_negative_prompt_is_called_by_its_name():
    with pytest.raises(AlignvidError, match=r"The negative prompt .* no words"):
        GenerationSpec(prompt="a cat", negative_prompt="!!!")
