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
from typing import Any

from alignvid.errors import RecipeError, UnknownPreset
from alignvid.presets.fingerprint import FIELDS, Fingerprint
from alignvid.recipe import Recipe

GENERIC = "generic"
"""Preset of any model that has no calibrated one."""

_FILE_FIELDS = {"title", "family", "default", "match", "readings", "calibration"}
_OPTIONAL_FIELDS = {"match", "calibration"}
_READING_FIELDS = {"provenance", "recipe"}


@dataclass(frozen=True)
class Preset:
    """A named recipe with its provenance."""

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
    """A built-in preset by name, or one from a TOML file by path.

    Raises: UnknownPreset if there is none of that name; RecipeError if a file is not a preset.
    """
    if name.endswith(".toml"):
        return _preset(Path(name).stem, _read_file(Path(name)), None)
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
    chosen = readings[reading]
    if set(chosen) != _READING_FIELDS:
        raise RecipeError(
            f"The reading {reading!r} of {stem!r} must have the fields provenance and recipe, not {sorted(chosen)}."
        )
    recipe = Recipe.from_dict(chosen["recipe"])
    name, calibration = f"{stem}:{reading}", content["calibration"]
    return Preset(name, content["title"], content["family"], chosen["provenance"], recipe, calibration)


@cache
def _built_in_names() -> tuple[str, ...]:
    return tuple(sorted(Path(file.name).stem for file in files(__name__).iterdir() if file.name.endswith(".toml")))


@cache
def _built_in(name: str) -> Mapping[str, Any]:
    return _parse(f"{name}.toml", (files(__name__) / f"{name}.toml").read_text(encoding="utf-8"))


def _read_file(path: Path) -> Mapping[str, Any]:
    try:
        return _parse(str(path), path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnknownPreset(
            f"The preset file {path} does not exist; built-in presets are {', '.join(_built_in_names())}."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"The preset file {path} cannot be read: {error}.") from error


def _parse(path: str, text: str) -> Mapping[str, Any]:
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path} is not valid TOML: {error}.") from error
    if unknown := sorted(set(content) - _FILE_FIELDS):
        raise RecipeError(
            f"{path} has the unknown field {unknown[0]!r}; a preset has {', '.join(sorted(_FILE_FIELDS))}."
        )
    if missing := sorted(_FILE_FIELDS - _OPTIONAL_FIELDS - set(content)):
        raise RecipeError(f"{path} lacks the field {missing[0]!r}; a preset has {', '.join(sorted(_FILE_FIELDS))}.")
    for name in _OPTIONAL_FIELDS:
        if not isinstance(content.get(name, {}), dict):
            raise RecipeError(f"{path} has {content[name]!r} as {name}; it must be a table, [{name}].")
    if unknown := sorted(set(content.get("match", {})) - set(FIELDS)):
        raise RecipeError(f"{path} has the unknown field {unknown[0]!r} in [match]; choose from {', '.join(FIELDS)}.")
    return {"match": {}, "calibration": {}, **content}
