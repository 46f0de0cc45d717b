"""The slider: one number from the picture (−1) to the prompt (1); 0 is the model as it is.

A place on it is a gain: text keys get `reach ** follow`, so that equal distances are equal factors, and keys of the
source picture a weaker factor the other way round, for a gain above 1 on these keeps the source. Which keys, blocks and
steps that are is data, by family.

What it rests on is little: the miniature, where text keys move its clips and image keys do not (docs/follow.md), and
the sign of two published methods for the picture's keys (arXiv 2510.24657, 2602.18022). No large model was at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from alignvid.blocks import BlockSet
from alignvid.errors import RecipeError
from alignvid.fields import is_finite_number
from alignvid.modulation import Scalar
from alignvid.recipe import Recipe
from alignvid.schedule import StepWindow


@dataclass(frozen=True)
class Scale:
    """What the slider does to the models of a family."""

    reach: float = 2.0
    """Gain on the text keys at 1, and its inverse at −1: within the gains that the paper tried, 1.35² = 1.82."""
    powers: Mapping[str, float] = field(default_factory=lambda: {"*.text": 1.0, "*.image": -0.25})
    """Power of that gain by target."""
    blocks: str = "all"
    steps: str = "all"
    """Window, which takes in the few steps of a distilled model, too."""


SCALES: Mapping[str, Scale] = {"*": Scale()}
"""By family; the star is any other."""


def recipe_at(follow: float, family: str) -> Recipe:
    """The recipe of a place on the slider, for models of a family.

    Raises: RecipeError if it does not lie between −1 and 1.
    """
    check_follow(follow)
    scale = SCALES.get(family, SCALES["*"])
    gain = Scalar(scale.reach**follow, scale.powers, shares_with_guidance=follow > 0)
    return Recipe(gain, BlockSet.of(scale.blocks), StepWindow.of(scale.steps))


def check_follow(follow: object) -> None:
    """Raises: RecipeError if it is not a number between −1 and 1."""
    if not is_finite_number(follow) or not -1 <= follow <= 1:  # type: ignore[operator]  # a number by the first test
        raise RecipeError(
            f"follow must be a number from -1 (the picture) to 1 (the prompt), but {follow!r} was given; 0 leaves the "
            "model as it is."
        )
