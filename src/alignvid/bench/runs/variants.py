"""Variants: the columns of a benchmark. A recipe or none, and what is changed in the pipeline's call.

Written as a list with commas: "baseline,alignvid,wan2.1-i2v-14b:paper,mine.toml,late: gamma=1.5 steps-window=0.7-1.0".
How a recipe is written is in alignvid.generate.recipes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from alignvid.bench.run_folder import CallSettings, VariantFacts
from alignvid.bench.runs.loop_settings import check_loop
from alignvid.errors import AlignvidError, InputError
from alignvid.fields import read
from alignvid.generate.recipes import AND, LIST_MARK, OWN, number, parse_recipe, parts_in, settings_in, settings_of
from alignvid.generate.sketch import Sketch
from alignvid.modulation.pilot import check_sigma
from alignvid.recipe import Recipe

BASELINE, ALIGNVID, STILL = "baseline", "alignvid", "still"
_COUNTS = {"cfg_high": "steps", "budget": "attempts", "n": "attempts"}
_NUMBERS = ("guidance", "blur", "false_yes", "false_no", *_COUNTS)
_TEXTS = ("guider", "prompts", "images")
_GUIDER = "guider:"
_CALL = (*_NUMBERS, *_TEXTS)


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
    cfg_high: int | None = None
    """Guidance in the first so many steps only."""
    guider: str | None = None
    """A guider of diffusers in place of plain classifier-free guidance, by its short name."""
    prompts: str | None = None
    """A file of other prompts, as of a rewriter."""
    images: str | None = None
    """A folder of other reference pictures, as of an editing model."""
    budget: int | None = None
    """At most so many attempts with new noise, until a judge says that the prompt is followed; see `loops`."""
    n: int | None = None
    """So many attempts with new noise, of which the same judge's best is kept."""
    false_yes: float | None = None
    """Share of that judge's noes that are made yes, on purpose."""
    false_no: float | None = None
    """Share of its yeses that are made no."""
    still: bool = False
    """The reference picture repeated, made without a model: what a judge must not take for a followed prompt."""
    node: Mapping[str, Any] | None = None
    """Widgets of ComfyUI's AlignVid node, which attaches there; None: no such node."""

    @property
    def settings(self) -> CallSettings:
        """What is changed in the call."""
        changed: dict[str, Any] = {name: value for name in _CALL if (value := getattr(self, name)) is not None}
        if self.still:
            changed["still"] = True
        if self.node is not None:
            changed["node"] = dict(self.node)
        return CallSettings(**changed)

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
    """Read one variant: "baseline", "still", "alignvid", "guider:apg", a preset, a .toml file, or settings such as
    "gamma=1.5 guidance=3", those of several modulations with "&" between them.

    Raises: AlignvidError naming what is wrong.
    """
    if text == BASELINE:
        return Variant(text)
    if text == STILL:
        return Variant(text, still=True)
    if text.startswith(_GUIDER) and "=" not in text:
        return Variant(text, guider=text.removeprefix(_GUIDER).strip())
    if "=" not in text and text[0].isdigit():
        raise InputError(
            f"{text!r} is no variant; commas part variants, so write blocks and streams of one with "
            f"{LIST_MARK!r}: blocks=0{LIST_MARK}2-7."
        )
    try:
        return _parsed(text, model)
    except AlignvidError as error:
        raise type(error)(f"Variant {text!r}: {error}") from error


def _parsed(text: str, model: Sketch) -> Variant:
    name, body = _named(text)
    call: dict[str, Any] = {}
    parts = []
    for part in parts_in(body):
        own = _without_call(part, call) if "=" in part else part
        parts += [own] if own else []
    check_loop(call, is_miniature=model.source.is_miniature)
    parts = parts or ([OWN] if "budget" in call else [])
    recipe = parse_recipe(f" {AND} ".join(parts), model) if parts else None
    return Variant(name or body, recipe, **call)


def _named(text: str) -> tuple[str, str]:
    """The name before a colon, if there is one, and the rest: a preset's name may hold a colon, too."""
    first, mark, others = text.partition(AND)
    head, equals, value = first.partition("=")
    name, colon, field = head.rpartition(":")
    if not equals or not colon:
        return "", text
    return name.strip(), f"{field}={value}{mark}{others}".strip()


def _without_call(part: str, call: dict[str, Any]) -> str:
    """What is left of a part's settings; what they change in the call is added to `call`."""
    settings = settings_in(part, (*settings_of(part), *_CALL), what="A variant")
    for field in _CALL:
        if field in settings:
            if field in call:
                raise InputError(f"{field} is set twice; leave one out.")
            text = settings.pop(field)
            call[field] = number(field, text) if field in _NUMBERS else text
    if "blur" in call:
        check_sigma(call["blur"])
    for field in _COUNTS.keys() & call.keys():
        call[field] = _count(field, call[field])
    return " ".join(f"{field}={value}" for field, value in settings.items())


def _count(field: str, number: float) -> int:
    if not number.is_integer():
        raise InputError(f"{field}={number:g} is no number of {_COUNTS[field]}; write for example {field}=8.")
    return int(number)
