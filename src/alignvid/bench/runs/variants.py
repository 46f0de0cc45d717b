"""Variants: the columns of a benchmark. A recipe or none, and what is changed in the pipeline's call.

Written as a list with commas: "baseline,alignvid,wan2.1-i2v-14b:paper,mine.toml,late: gamma=1.5 steps=0.7-1.0".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from alignvid.bench.run_folder import CallSettings, VariantFacts
from alignvid.errors import AlignvidError, InputError
from alignvid.fields import read
from alignvid.generate.sketch import Sketch, resolve
from alignvid.generate.spec import parse_blocks, parse_streams
from alignvid.modulation import KINDS, from_dict
from alignvid.modulation.pilot import check_sigma
from alignvid.recipe import Recipe
from alignvid.schedule import StepWindow

BASELINE, ALIGNVID = "baseline", "alignvid"
_CALL = ("guidance", "blur")
_RECIPE = ("preset", "gamma", "blocks", "steps", "streams", "branch", "kind")
_MODULATION = tuple(dict.fromkeys(name for kind in KINDS.values() for name in kind.number_names() if name != "gamma"))
"""What belongs to some kind of modulation alone."""
_LIST_MARK = "+"


@dataclass(frozen=True)
class Variant:
    """One column."""

    name: str
    """Unique in a run."""
    recipe: Recipe | None = None
    """None: AlignVid is not attached."""
    guidance: float | None = None
    """In place of the run's."""
    blur: float | None = None
    """Standard deviation, in pixels of the model's input, of a Gaussian blur of the reference image: the pilot study's
    way to raise adherence."""

    @property
    def settings(self) -> CallSettings:
        """What is changed in the call."""
        return CallSettings(**{name: value for name in _CALL if (value := getattr(self, name)) is not None})

    def to_dict(self) -> VariantFacts:
        """Plain data for the run's plan."""
        recipe = None if self.recipe is None else self.recipe.to_dict()
        return {"name": self.name, "recipe": recipe, "settings": self.settings}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Variant:
        """Read a dict written by `to_dict`. Raises: InputError or RecipeError naming the field that is wrong."""
        facts = read(VariantFacts, values, what="A variant", error=InputError)
        recipe = None if facts["recipe"] is None else Recipe.from_dict(facts["recipe"])
        return cls(facts["name"], recipe, **facts["settings"])


def parse_variants(texts: Iterable[str], model: Sketch) -> tuple[Variant, ...]:
    """Read variants, and try each recipe on a model without its weights.

    Raises: AlignvidError naming the variant that cannot be.
    """
    parts = [part.strip() for text in texts for part in text.split(",") if part.strip()]
    variants = tuple(parse_variant(part, model) for part in parts)
    if not variants:
        raise InputError(f"No variant is named; write for example --variants {BASELINE},{ALIGNVID}.")
    check_variants(variants)
    return variants


def check_variants(variants: Iterable[Variant]) -> None:
    """Refuse two variants of one name. Raises: InputError."""
    names = [variant.name for variant in variants]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f'Two variants are named {twice[0]!r}; give each its own name: "name: gamma=1.5".')


def parse_variant(text: str, model: Sketch) -> Variant:
    """Read one variant: "baseline", "alignvid", a preset, a .toml file, or settings such as "gamma=1.5 guidance=3".

    Raises: AlignvidError naming what is wrong.
    """
    if text == BASELINE:
        return Variant(text)
    if "=" in text:
        return _inline(text, model)
    if text[0].isdigit():
        raise InputError(
            f"{text!r} is no variant; commas part variants, so write blocks and streams of one with "
            f"{_LIST_MARK!r}: blocks=0{_LIST_MARK}2-7."
        )
    return Variant(text, _recipe(text, {} if text == ALIGNVID else {"preset": text}, model))


def _inline(text: str, model: Sketch) -> Variant:
    head, _, rest = text.partition("=")
    name, colon, first = head.rpartition(":")
    settings_text = f"{first if colon else head}={rest}"
    settings = _pairs(settings_text, text)
    call = {field: _number(field, settings.pop(field)) for field in _CALL if field in settings}
    if "blur" in call:
        check_sigma(call["blur"])
    recipe = _recipe(text, settings, model) if settings else None
    return Variant(name.strip() or settings_text.strip(), recipe, **call)


def _pairs(settings: str, text: str) -> dict[str, str]:
    pairs = {}
    for part in settings.split():
        field, mark, value = part.partition("=")
        if not mark or not value:
            raise InputError(f"{part!r} in the variant {text!r} is no setting; write field=value, such as gamma=1.5.")
        if field not in (known := (*_RECIPE, *_MODULATION, *_CALL)):
            raise InputError(f"A variant has no setting {field!r} (in {text!r}); choose from {', '.join(known)}.")
        if field in pairs:
            raise InputError(f"The variant {text!r} sets {field} twice; leave one out.")
        pairs[field] = value
    return pairs


def _recipe(text: str, settings: Mapping[str, str], model: Sketch) -> Recipe:
    """The recipe that these settings make on this model, as `attach` would resolve it."""
    try:
        preset, rest = _base(settings)
        overrides = {
            "gamma": _number("gamma", rest["gamma"]) if "gamma" in rest else None,
            "blocks": parse_blocks(_listed(rest["blocks"])) if "blocks" in rest else None,
            "steps": StepWindow.of(rest["steps"]) if "steps" in rest else None,
            "streams": parse_streams(_listed(rest["streams"])) if "streams" in rest else None,
            "branch": rest.get("branch"),
        }
        return resolve(model, preset, overrides).recipe
    except AlignvidError as error:
        raise type(error)(f"Variant {text!r}: {error}") from error


def _base(settings: Mapping[str, str]) -> tuple[str | Recipe | None, dict[str, str]]:
    """What the settings change: a preset, the model's own, or, where a kind is named, that kind with its defaults."""
    rest = {field: value for field, value in settings.items() if field not in ("preset", "kind", *_MODULATION)}
    fields = {field: _number(field, settings[field]) for field in _MODULATION if field in settings}
    if "kind" not in settings:
        if fields:
            raise InputError(f"{next(iter(fields))} belongs to a kind of modulation; add for example kind=energy.")
        return settings.get("preset"), rest
    if "preset" in settings:
        raise InputError("preset and kind exclude each other; give one of them.")
    if "gamma" in rest:  # here, not as an override: energy's lower end must lie below it
        fields["gamma"] = _number("gamma", rest.pop("gamma"))
    return Recipe(modulation=from_dict({"kind": settings["kind"], **fields})), rest


def _number(field: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{field}={text} is no number; write for example {field}=1.5.") from None


def _listed(text: str) -> str:
    return text.replace(_LIST_MARK, ",")
