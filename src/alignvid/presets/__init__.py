"""Presets: named recipes as TOML data, with where they come from.

A file holds one model and one or more readings of its recipe. `name` means the default reading, `name:reading` another
one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from alignvid.errors import AlignvidError, RecipeError, UnknownPreset, UnreadableFile
from alignvid.fields import read
from alignvid.files import is_foreign, read_bytes, user_path
from alignvid.presets.fingerprint import Fingerprint
from alignvid.recipe import Recipe

GENERIC = "generic"
"""Preset of any model that has no calibrated one."""

_RECIPE_MARK, _PRESET_MARK = "modulation", "readings"
"""A field that only a recipe's file has, and one that only a preset's has."""
_MAX_BYTES = 16 << 20  # a calibration of 10,000 blocks has 1 MB


class _Reading(TypedDict):
    provenance: str
    recipe: Mapping[str, Any]


class _Match(TypedDict):
    """What a preset recognises its model by; what it leaves out may be anything."""

    layers: NotRequired[Mapping[str, int]]
    heads: NotRequired[int]
    width: NotRequired[int]
    image_keys: NotRequired[list[int]]
    checkpoint_contains: NotRequired[str]


class _Written(TypedDict):
    """A preset's file."""

    title: str
    family: str
    default: str
    readings: Mapping[str, _Reading]
    match: NotRequired[_Match]
    calibration: NotRequired[Mapping[str, Any]]


@dataclass(frozen=True)
class Preset:
    """A named recipe with its provenance.

    Examples:
        >>> from alignvid import presets
        >>> preset = presets.load("wan2.1-i2v-14b:paper")
        >>> preset.family, preset.recipe.gamma
        ('wan', 1.35)
        >>> print(preset.recipe.steps)
        0% to 30% of the steps
    """

    name: str
    """Such as "wan2.1-i2v-14b:paper"."""
    title: str
    """The model in words."""
    family: str
    """Family of transformers that it is for; "*" for any."""
    provenance: str
    """Paper, released code, or the calibration run that made it."""
    recipe: Recipe
    calibration: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What the calibration measured, if one made this preset: data, seeds, versions, every block's ratio."""


def names() -> list[str]:
    """Every built-in preset, "name:reading", sorted; the plain name means the default reading."""
    return [f"{name}:{reading}" for name in _built_in_names() for reading in _built_in(name)["readings"]]


def load(name: str) -> Preset:
    """A built-in preset by name, or one from a TOML file by path: a preset's file, or a recipe's.

    Raises: UnknownPreset if there is none of that name; RecipeError if a file is neither.
    """
    if name.endswith(".toml"):
        path = user_path(name)
        values = _read_file(path)
        if _RECIPE_MARK in values and _PRESET_MARK not in values:
            return _recipe_alone(path, values)
        return _preset(path.stem, _content(str(path), values), None)
    stem, _, reading = name.partition(":")
    if stem not in _built_in_names():
        raise UnknownPreset(
            f"{name!r} is not a preset; choose from {', '.join(_built_in_names())}, or give the path of a .toml file."
        )
    return _preset(stem, _built_in(stem), reading or None)


def find(model: Fingerprint) -> Preset:
    """The preset made for a model, else the generic one. Of several that fit the one that asks for the most."""
    fitting = [name for name in _built_in_names() if _fits(_built_in(name), model)]
    best = max(fitting, key=lambda name: len(_built_in(name)["match"]), default=GENERIC)
    return load(best)


def _fits(content: Mapping[str, Any], model: Fingerprint) -> bool:
    return content["family"] == model.family and bool(content["match"]) and model.fits(content["match"])


def _preset(stem: str, content: Mapping[str, Any], reading: str | None) -> Preset:
    readings = content["readings"]
    reading = reading or content["default"]
    if reading not in readings:
        raise UnknownPreset(f"The preset {stem!r} has no reading {reading!r}; choose from {', '.join(readings)}.")
    name, chosen = f"{stem}:{reading}", readings[reading]
    try:
        recipe = Recipe.from_dict(chosen["recipe"])
    except AlignvidError as error:
        raise type(error)(f"Preset {name!r}: {error}") from error
    return Preset(name, content["title"], content["family"], chosen["provenance"], recipe, content["calibration"])


@cache
def _built_in_names() -> tuple[str, ...]:
    found = [Path(file.name) for file in files(__name__).iterdir()]
    return tuple(sorted(file.stem for file in found if file.suffix == ".toml" and not is_foreign(file)))


@cache
def _built_in(name: str) -> Mapping[str, Any]:
    path = f"{name}.toml"
    return _content(path, _toml(path, (files(__name__) / path).read_text(encoding="utf-8")))


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return _toml(str(path), read_bytes(path, max_bytes=_MAX_BYTES).decode("utf-8-sig"))
    except UnreadableFile as error:
        if error.is_missing:
            raise UnknownPreset(
                f"The preset file {str(path)!r} does not exist; built-in presets are {', '.join(_built_in_names())}."
            ) from None
        raise RecipeError(f"The preset file {error} Give a TOML file.") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"The preset file {str(path)!r} cannot be read: {error}; save it as UTF-8.") from error


def _recipe_alone(path: Path, values: Mapping[str, Any]) -> Preset:
    """A recipe for whatever model has its blocks and streams."""
    try:
        recipe = Recipe.from_dict(values)
    except AlignvidError as error:
        raise type(error)(f"The recipe file {str(path)!r}: {error}") from error
    return Preset(path.stem, f"The recipe in {path.name}", "*", "A recipe's file; it says no more.", recipe)


def _toml(path: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{path} is not valid TOML: {error}.") from error


def _content(path: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """A preset's file with all its fields."""
    content = read(_Written, values, what=f"The preset file {path!r}", error=RecipeError)
    return {"match": {}, "calibration": {}, **content}
