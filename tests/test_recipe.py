"""Recipes: frozen, checked, serialisable."""

from __future__ import annotations

import json
import tomllib

import pytest

from alignvid.blocks import BlockSet
from alignvid.errors import ModulationError, RecipeError
from alignvid.modulation import Scalar
from alignvid.recipe import Recipe
from alignvid.schedule import StepWindow

RELEASED = Recipe(
    modulation=Scalar(1.35, {"cross.text": 2.0, "cross.image": 1.0}),
    blocks=BlockSet.of("0,2-7"),
    steps=StepWindow.noise_above(0.9),
    branch="cond",
)


def test_recipe_round_trips_through_json():
    assert Recipe.from_dict(json.loads(json.dumps(RELEASED.to_dict()))) == RELEASED


def test_recipe_reads_toml():
    text = """
    blocks = "first-half"
    steps = { unit = "fraction", start = 0.0, stop = 0.3 }
    modulation = { kind = "scalar", gamma = 1.35, powers = { "*.text" = 1.0, "*.vision" = 1.0, "*.image" = 1.0 } }
    """
    assert Recipe.from_dict(tomllib.loads(text)) == Recipe()


def test_recipe_is_hashable_so_that_it_can_name_a_variant():
    assert len({RELEASED, Recipe.from_dict(RELEASED.to_dict()), Recipe()}) == 2


def test_override_replaces_only_what_is_given():
    changed = RELEASED.override(gamma=2.0)
    assert changed.modulation.powers == RELEASED.modulation.powers
    assert (changed.gamma, changed.blocks, changed.steps, changed.branch) == (
        2.0,
        RELEASED.blocks,
        RELEASED.steps,
        "cond",
    )
    assert RELEASED.override() == RELEASED


def test_override_replaces_each_part():
    changed = RELEASED.override(blocks=[1], steps=(0.0, 0.5), powers={"cross.text": 1.0}, branch="both")
    assert changed == Recipe(Scalar(1.35, {"cross.text": 1.0}), BlockSet.of([1]), StepWindow.fraction(0.0, 0.5), "both")


def test_unknown_field_is_refused_by_name():
    with pytest.raises(RecipeError, match=r"no field 'step'; its fields are modulation, blocks, steps, branch"):
        Recipe.from_dict({**RELEASED.to_dict(), "step": 3})


@pytest.mark.parametrize("field", ["modulation", "blocks", "steps"])
def test_missing_field_is_refused_by_name(field):
    fields = RELEASED.to_dict()
    del fields[field]
    with pytest.raises(RecipeError, match=f"lacks the field '{field}'"):
        Recipe.from_dict(fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"modulation": 3}, "A recipe: the field 'modulation' is 3; it must be an object"),
        ({"modulation": {"kind": ["scalar"]}}, r"kind \['scalar'\] is unknown"),
        ({"modulation": {"gamma": "1.35"}}, "A modulation of kind 'scalar': the field 'gamma' is '1.35'; it must be a"),
        ({"modulation": {"powers": ["cross.text"]}}, "the field 'powers' is a list of 1; it must be an object"),
        ({"blocks": 3}, "the field 'blocks' is 3; it must be text or a list or an object"),
        ({"blocks": {"blocks": None}}, "the field 'blocks.blocks' is None"),
        ({"steps": [0.0, 0.3]}, "the field 'steps' is a list of 2; it must be an object"),
        ({"branch": "neither"}, "the field 'branch' is 'neither'; it must be 'both', 'cond' or 'uncond'"),
    ],
    ids=repr,
)
def test_a_field_of_the_wrong_type_is_named_with_what_is_allowed(fields, message):
    with pytest.raises((RecipeError, ModulationError), match=message):
        Recipe.from_dict({**RELEASED.to_dict(), **fields})


@pytest.mark.usefixtures("unchecked_types")
def test_unknown_branch_is_refused_with_the_choices():
    with pytest.raises(RecipeError, match=r"'conditional' is unknown; choose one of both, cond, uncond"):
        Recipe(branch="conditional")  # type: ignore[arg-type]


def test_override_checks_gamma():
    with pytest.raises(ModulationError):
        RELEASED.override(gamma=-1.0)


def test_unknown_kind_of_modulation_is_refused_with_the_choices():
    with pytest.raises(ModulationError, match=r"kind 'entropy' is unknown; choose one of scalar"):
        Recipe.from_dict({**RELEASED.to_dict(), "modulation": {"kind": "entropy"}})
