"""GenerationSpec: everything that decides what a video looks like, checked and serialisable."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from alignvid.blocks import BlockSet
from alignvid.errors import InputError, RecipeError
from alignvid.fields import read
from alignvid.generate.prompts import check_prompt
from alignvid.media.images import MAX_PIXELS
from alignvid.models.reading.words import Run, has_word, nearest_words
from alignvid.modulation import check_gamma
from alignvid.modulation.emphasis import check_weights
from alignvid.presets.follow import check_follow
from alignvid.recipe import Recipe
from alignvid.schedule import StepWindow

MINIATURE = "miniature"
"""The name of the model that is shipped inside this package."""

DISTILLED = "miniature-4-step"
"""The same with a LoRA over it that makes clips in four steps."""

MINIATURES = (MINIATURE, DISTILLED)

SIDE_MULTIPLE = 16
"""Widths and heights are multiples of this in every supported family: a latent of 8 pixels, a patch of 2 latents."""

DTYPES = ("float32", "bfloat16", "float16")
OFFLOADS = ("none", "model", "sequential")


IN_A_RECIPE = ("preset", "gamma", "blocks", "steps_window", "streams", "branch", "follow")
"""Fields that a recipe written as text takes the place of."""


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Which model makes videos, and how. None means: what suits the model, the image or the machine."""

    model: str = MINIATURE
    """"miniature", "miniature-4-step", a diffusers pipeline folder, or a model's id on the Hugging Face Hub."""
    steps: int | None = None
    """Denoising steps."""
    guidance: float | None = None
    """Scale of classifier-free guidance."""
    width: int | None = None
    """Pixels, a multiple of 16."""
    height: int | None = None
    """Pixels, a multiple of 16."""
    frames: int | None = None
    """Length of the video in frames."""
    fps: float | None = None
    """Frames a second of the file; it does not change the frames."""
    device: str | None = None
    """"cpu", "cuda", "cuda:1", "mps"."""
    dtype: str | None = None
    """Number format of the weights: "float32", "bfloat16" or "float16"."""
    offload: str | None = None
    """What waits in main memory: "none", "model" (whole models) or "sequential" (single layers)."""

    @property
    def model_settings(self) -> dict[str, Any]:
        """These fields alone, by name."""
        return {field.name: getattr(self, field.name) for field in fields(ModelSettings)}


@dataclass(frozen=True, kw_only=True)
class GenerationSpec(ModelSettings):
    """One video to make."""

    prompt: str
    """What the video should show."""
    image: str | None = None
    """Path of the reference image; None for text-to-video and text-to-image models."""
    negative_prompt: str | None = None
    """What it should not show; it acts only with a guidance above 1."""
    preset: str | None = None
    """Name of a preset or path of a recipe's TOML file; None finds the model's own."""
    recipe: str | None = None
    """In place of a preset and what changes it: settings of one modulation or several, such as
    "gamma=1.5 streams=text & kind=energy streams=image"; see alignvid.generate.recipes."""
    gamma: float | None = None
    """Strength of AlignVid; 1 leaves the model as it is."""
    blocks: str | None = None
    """Blocks: "first-half", "0,2-7", or per stack "transformer_blocks=all;single_transformer_blocks=0-7"."""
    steps_window: str | None = None
    """Steps at which it acts: "0.0-0.3" in fractions of the steps, "noise>0.9", or "all"."""
    streams: str | None = None
    """Token groups whose keys are scaled, with commas: "text,image"."""
    branch: str | None = None
    """Pass of classifier-free guidance in which it acts: "both", "cond" or "uncond"."""
    follow: float | None = None
    """One number in place of preset, gamma and streams: from -1, the picture, to 1, the prompt."""
    emphasise: str | None = None
    """Words or phrases of the prompt with a weight each, beside the recipe: "sunglasses:1.6, red:1.3"."""
    cfg_high: int | None = None
    """Steps with guidance, from the first one on; all of them unless given."""
    seed: int = 0
    """Of the initial noise; drawn on the CPU, so that it means the same on every device."""
    max_pixels: int = MAX_PIXELS
    """Limit on the reference image."""

    def __post_init__(self) -> None:
        check_prompt(self.prompt)
        if self.negative_prompt:
            check_prompt(self.negative_prompt, name="negative prompt")
        if self.gamma is not None:
            check_gamma(self.gamma)
        self._check_recipe_parts()
        self._check_numbers()
        _check_choice("dtype", self.dtype, DTYPES)
        _check_choice("offload", self.offload, OFFLOADS)

    @property
    def recipe_overrides(self) -> dict[str, Any]:
        """The keyword arguments of `alignvid.attach` that this spec sets."""
        return {
            "gamma": self.gamma,
            "blocks": parse_blocks(self.blocks) if self.blocks else None,
            "steps": StepWindow.of(self.steps_window) if self.steps_window else None,
            "streams": parse_streams(self.streams) if self.streams else None,
            "branch": self.branch,
            "follow": self.follow,
            "words": parse_emphasis(self.emphasise, self.prompt) if self.emphasise else None,
        }

    def overrides_of(self, recorded: Recipe | None) -> dict[str, Any]:
        """The same, beside a recorded recipe if there is one: that holds already what `follow` made."""
        return self.recipe_overrides | ({} if recorded is None else {"follow": None})

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` reads it back to an equal spec."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GenerationSpec:
        """Read a dict written by `to_dict`.

        Raises: InputError naming the field that is unknown, missing, of another type or out of range.
        """
        return read(cls, values, what="A generation spec", error=InputError)

    def _check_recipe_parts(self) -> None:
        if self.recipe is not None and (given := [name for name in IN_A_RECIPE if getattr(self, name) is not None]):
            raise InputError(
                f"recipe says all of what acts, so that {given[0]} says nothing beside it; write it into the recipe, "
                "or leave one of them out."
            )
        if self.blocks is not None:
            parse_blocks(self.blocks)
        if self.steps_window is not None:
            StepWindow.of(self.steps_window)
        if self.streams is not None:
            parse_streams(self.streams)
        _check_choice("branch", self.branch, ("both", "cond", "uncond"))
        if self.follow is not None:
            self._check_follow()
        if self.emphasise is not None:
            parse_emphasis(self.emphasise, self.prompt)

    def _check_follow(self) -> None:
        check_follow(self.follow)
        if given := [name for name in ("preset", "gamma", "streams") if getattr(self, name) is not None]:
            raise InputError(f"follow takes the place of {given[0]}; leave one of them out.")

    def _check_numbers(self) -> None:
        _check_range("seed", self.seed, 0, 2**63 - 1)
        _check_range("steps", self.steps, 1, 1_000)
        _check_range("frames", self.frames, 1, 10_000)
        _check_range("guidance", self.guidance, 0, 100)
        _check_range("cfg_high", self.cfg_high, 1, 1_000)
        _check_range("fps", self.fps, 0.1, 240)
        _check_range("max_pixels", self.max_pixels, 1, 10**10)
        for name in ("width", "height"):
            side = getattr(self, name)
            _check_range(name, side, SIDE_MULTIPLE, 8_192)
            if side is not None and side % SIDE_MULTIPLE:
                below = side // SIDE_MULTIPLE * SIDE_MULTIPLE
                raise InputError(
                    f"{name} {side} is not a multiple of {SIDE_MULTIPLE}; choose {below} or {below + SIDE_MULTIPLE}."
                )
        if (self.width is None) != (self.height is None):
            raise InputError("Width and height belong together; give both, or none to keep the shape of the image.")


def parse_blocks(text: str) -> BlockSet:
    """Read "0,2-7", "first-half" or "stack=0,2-7;other_stack=all".

    Raises: ScheduleError if it is none of these.
    """
    if "=" not in text:
        return BlockSet.of(text)
    pairs = (part.partition("=") for part in text.split(";") if part.strip())
    return BlockSet.of({stack.strip(): selection.strip() for stack, _, selection in pairs})


def parse_streams(text: str) -> list[str]:
    """Read "text,image".

    Raises: RecipeError if no name is left.
    """
    streams = [stream.strip() for stream in text.split(",") if stream.strip()]
    if not streams:
        raise RecipeError(f"{text!r} names no stream; write for example 'text' or 'text,image'.")
    return streams


def parse_emphasis(text: str, prompt: str) -> dict[str, float]:
    """Read "sunglasses:1.6, red:1.3".

    Raises: InputError if it is not of that form, or the prompt lacks a word, naming the nearest; ModulationError for an
        impossible weight.
    """
    weights: dict[str, float] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        word, colon, weight = part.rpartition(":")
        try:
            weights[word.strip()] = float(weight) if colon else math.nan
        except ValueError:
            weights[word.strip()] = math.nan
        if math.isnan(weights[word.strip()]) or not word.strip():
            raise InputError(f"{part!r} is not a word with its weight; write for example 'sunglasses:1.6, red:1.3'.")
    if not weights:
        raise InputError(f"{text!r} names no word; write for example 'sunglasses:1.6, red:1.3'.")
    check_weights(weights)
    spoken = Run(prompt, (), ())
    for word in weights:
        if not has_word(prompt, word):
            near = ", ".join(nearest_words([spoken], word))
            raise InputError(f"{word!r} is not in the prompt {prompt!r}; the nearest there: {near}.")
    return weights


def _check_choice(name: str, value: str | None, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        raise InputError(f"{name} {value!r} is unknown; choose one of {', '.join(choices)}.")


def _check_range(name: str, value: float | None, low: float, high: float) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or not low <= value <= high:
        raise InputError(f"{name} {value!r} is out of range; choose a number from {low:,} to {high:,}.")
