"""Variants as a user writes them."""

from __future__ import annotations

import pytest

from alignvid.errors import InputError
from alignvid.miniature import load_pipeline
from alignvid.miniature.training.compare import parse_variant
from alignvid.schedule import StepWindow


def test_the_baseline_has_no_recipe() -> None:
    assert parse_variant("baseline", None).recipe is None


def test_settings_become_a_recipe_on_the_text_keys() -> None:
    variant = parse_variant("gamma=2.5 steps=0-0.5 blocks=0,2-3 guidance=3", None)
    assert variant.recipe is not None
    assert variant.recipe.modulation.gain("cross.text") == 2.5
    assert variant.recipe.steps == StepWindow.fraction(0.0, 0.5)
    assert variant.recipe.blocks.indices("blocks", 6) == (0, 2, 3)
    assert variant.guidance == 3.0


def test_guidance_alone_is_a_baseline_with_guidance() -> None:
    variant = parse_variant("guidance=3 sampling=4", None)
    assert (variant.recipe, variant.guidance, variant.steps) == (None, 3.0, 4)


def test_the_preset_is_the_miniatures_own() -> None:
    recipe = parse_variant("preset", load_pipeline()).recipe
    assert recipe is not None
    assert set(recipe.modulation.powers) == {"cross.text"}


def test_an_unknown_setting_is_named_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="no setting 'gain'; choose from blocks, gamma, guidance, sampling, steps"):
        parse_variant("gain=2", None)
