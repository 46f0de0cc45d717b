"""Recipes as text, on the command line and as variants of a benchmark.

gamma=1.5 steps-window=0.7-1.0                    the model's own preset, changed
preset=generic gamma=1.2                          that preset, changed; "generic" alone as it is; a .toml file
kind=energy low=0.9 streams=text                  a kind of modulation from its own defaults
streams=text & kind=energy streams=image    several modulations, in the order in which they act
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from alignvid.errors import InputError
from alignvid.generate.sketch import Sketch, resolve
from alignvid.generate.spec import parse_blocks, parse_streams
from alignvid.modulation import BUILT_IN, from_dict, kind_named
from alignvid.recipe import Recipe
from alignvid.schedule import StepWindow

OWN = "alignvid"
"""The model's own preset."""
AND = "&"
"""Between the modulations of one recipe."""
LIST_MARK = "+"
"""Between blocks or streams: commas part variants."""

_SETTINGS = ("preset", "gamma", "blocks", "steps-window", "streams", "branch", "follow", "kind")
_NOTHING = {"gamma": None, "blocks": None, "steps": None, "streams": None, "branch": None}


def parse_recipe(text: str, model: Sketch) -> Recipe:
    """The recipe that a text means on a model, as `attach` would resolve it.

    Raises: AlignvidError naming what is wrong: a setting, a value, what the model does not have, or modulations that
    cannot act together.
    """
    recipes = [_part(part, model) for part in parts_in(text)]
    first, *others = [single for recipe in recipes for single in recipe.parts]
    return resolve(model, replace(first, then=tuple(others)), _NOTHING).recipe


def parts_in(text: str) -> list[str]:
    """The texts of a recipe's modulations. Raises: InputError if one is empty."""
    parts = [part.strip() for part in text.split(AND)]
    if not all(parts):
        raise InputError(f"{text!r} has nothing on one side of {AND!r}; write for example 'gamma=1.5 {AND} gamma=2'.")
    return parts


def settings_in(part: str, known: Sequence[str], *, what: str) -> dict[str, str]:
    """The settings of one part, by name. Raises: InputError for one that is unknown, without a value, or twice there.

    `what`: what has them, for messages.
    """
    pairs = {}
    for item in part.split():
        field, mark, value = item.partition("=")
        if not mark or not value:
            raise InputError(f"{item!r} in {part!r} is no setting; write field=value, such as gamma=1.5.")
        if field not in known:
            raise InputError(f"{what} has no setting {field!r} (in {part!r}); choose from {', '.join(known)}.")
        if field in pairs:
            raise InputError(f"{part!r} sets {field} twice; leave one out.")
        pairs[field] = value
    return pairs


def settings_of(part: str) -> tuple[str, ...]:
    """Names of the settings that a part may have. Raises: ModulationError for a kind that is unknown, or broken."""
    kind = next((item.partition("=")[2] for item in part.split() if item.startswith("kind=")), "")
    return *_SETTINGS, *_own_numbers(kind or None)


def number(field: str, text: str) -> float:
    """The number of a setting. Raises: InputError."""
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{field}={text} is no number; write for example {field}=1.5.") from None


def _part(part: str, model: Sketch) -> Recipe:
    if "=" not in part:
        return resolve(model, None if part == OWN else part, _NOTHING).recipe
    base, rest = _base(settings_in(part, settings_of(part), what="A recipe"))
    overrides = {
        "gamma": number("gamma", rest["gamma"]) if "gamma" in rest else None,
        "blocks": parse_blocks(_listed(rest["blocks"])) if "blocks" in rest else None,
        "steps": StepWindow.of(rest["steps-window"]) if "steps-window" in rest else None,
        "streams": parse_streams(_listed(rest["streams"])) if "streams" in rest else None,
        "branch": rest.get("branch"),
        "follow": number("follow", rest["follow"]) if "follow" in rest else None,
    }
    return resolve(model, base, overrides).recipe


def _base(settings: Mapping[str, str]) -> tuple[str | Recipe | None, dict[str, str]]:
    """What the settings change: a preset, the model's own, or, where a kind is named, that kind with its defaults."""
    numbers = _own_numbers(settings.get("kind"))
    rest = {field: value for field, value in settings.items() if field not in ("preset", "kind", *numbers)}
    fields = {field: number(field, settings[field]) for field in numbers if field in settings}
    if "kind" not in settings:
        if fields:
            raise InputError(f"{next(iter(fields))} belongs to a kind of modulation; add for example kind=energy.")
        return settings.get("preset"), rest
    if "preset" in settings:
        raise InputError("preset and kind exclude each other; give one of them.")
    if "gamma" in rest:  # here, not as an override: energy's lower end must lie below it
        fields["gamma"] = number("gamma", rest.pop("gamma"))
    return Recipe.of(from_dict({"kind": settings["kind"], **fields})), rest


def _own_numbers(kind: str | None) -> list[str]:
    """What belongs to a kind of modulation alone; without a kind, to any of the built-in ones."""
    kinds = BUILT_IN if kind is None else (*BUILT_IN, kind_named(kind))
    return list(dict.fromkeys(name for one in kinds for name in one.number_names() if name != "gamma"))


def _listed(text: str) -> str:
    return text.replace(LIST_MARK, ",")
