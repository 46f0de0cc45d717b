"""What a node's widgets say, as alignvid's own arguments. Texts are read by alignvid; nothing is decided here."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import alignvid
from alignvid import presets
from alignvid.attachment.attachment import Attachment
from alignvid.blocks import BlockSet
from alignvid.errors import AlignvidError, RecipeError
from alignvid.modulation import check_gamma
from alignvid.presets.follow import check_follow
from alignvid.recipe import Recipe
from alignvid.schedule import StepWindow

from .host import Lent

AUTO = "auto"
"""Preset: the one that fits the model."""
AS_PRESET = "preset"
"""Strength or branch: what the preset says."""
GAMMA, FOLLOW = "gamma", "follow"
"""Strengths: the number of that name."""


STRENGTHS = (AS_PRESET, GAMMA, FOLLOW)
"""What the strength widget offers."""
BRANCHES = (AS_PRESET, "both", "cond", "uncond")
"""What the branch widget offers."""


def preset_names() -> list[str]:
    """What the preset widget offers."""
    return [AUTO, *presets.names()]


def problem_of(**widgets: Any) -> str:
    """Why these widgets cannot be run, in one sentence; empty if they can, as far as is known without a model."""
    try:
        if widgets.get("strength", AS_PRESET) not in STRENGTHS:
            return f"strength {widgets['strength']!r} is unknown; choose from {', '.join(STRENGTHS)}."
        if widgets.get("branch", AS_PRESET) not in (None, "", *BRANCHES):
            return f"branch {widgets['branch']!r} is unknown; choose from {', '.join(BRANCHES)}."
        if widgets.get("strength") == GAMMA:
            gamma = widgets.get("gamma")
            if gamma is not None:
                check_gamma(float(gamma))
        if widgets.get("strength") == FOLLOW and widgets.get("follow") is not None:
            check_follow(widgets["follow"])
        overrides(**widgets)
        if widgets.get("recipe_text"):
            recipe_from(widgets["recipe_text"])
    except AlignvidError as error:
        return str(error)
    return ""


def overrides(**widgets: Any) -> dict[str, Any]:
    """Arguments of `alignvid.attach`; those that are left empty are the preset's.

    Raises: ScheduleError, ModulationError for what cannot be read.
    """
    given: dict[str, Any] = {}
    if widgets.get("strength") == GAMMA:
        given["gamma"] = widgets.get("gamma")
    if widgets.get("strength") == FOLLOW:
        given["follow"] = widgets.get("follow")
    if blocks := (widgets.get("blocks") or "").strip():
        given["blocks"] = BlockSet.of(_as_json(blocks))
    if steps := (widgets.get("steps") or "").strip():
        given["steps"] = StepWindow.of(steps)
    if streams := (widgets.get("streams") or "").strip():
        given["streams"] = _streams(streams)
    if widgets.get("branch") not in (None, "", AS_PRESET):
        given["branch"] = widgets["branch"]
    return given


def attached(lent: Lent, preset: str, recipe: Recipe | None, *, proof: bool, **widgets: Any) -> Attachment:
    """An attachment as the widgets say. Raises: what `alignvid.attach` raises."""
    wanted = recipe if recipe is not None else None if preset == AUTO else preset
    return alignvid.attach(lent, wanted, proof=proof, **overrides(**widgets))


def in_part(preset: str, *, proof: bool, **widgets: Any) -> Callable[[Lent, StepWindow], Attachment]:
    """Attaches as the widgets say, with another window in place of the preset's."""

    def attach(lent: Lent, window: StepWindow) -> Attachment:
        steps = f"noise:{window.start}-{window.stop}"
        return attached(lent, preset, None, proof=proof, **widgets | {"steps": steps})

    return attach


def recipe_from(text: str) -> Recipe:
    """A recipe pasted as JSON, as `alignvid` and AlignVid Recipe write it. Raises: RecipeError if it is none."""
    try:
        fields = json.loads(text, parse_constant=lambda word: _refuse_constant(word))
    except ValueError as error:
        raise RecipeError(
            f"The text is no recipe: {error}. Paste the JSON that AlignVid Recipe writes, or leave it empty."
        ) from error
    if not isinstance(fields, dict):
        raise RecipeError(f"A recipe is an object in braces, but {type(fields).__name__} was given; paste it whole.")
    return Recipe.from_dict(fields)


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _as_json(text: str) -> Any:
    """Blocks by stack are written in braces."""
    if not text.startswith("{"):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise RecipeError(
            f'{text!r} cannot be read: {error}. Write blocks by stack as {{"blocks": "0,2-7"}}.'
        ) from error


def _streams(text: str) -> list[str] | dict[str, float]:
    """Names, or names with their powers of gamma: "text, image" or "cross.text=2, cross.image=1"."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not any("=" in part for part in parts):
        return parts
    powers = {}
    for part in parts:
        name, _, power = part.partition("=")
        try:
            powers[name.strip()] = float(power or 1.0)
        except ValueError:
            powers[name.strip()] = math.nan
        if not math.isfinite(powers[name.strip()]):
            raise RecipeError(f"{part!r} gives no power of gamma; write streams as text, image or cross.text=2.")
    return powers
