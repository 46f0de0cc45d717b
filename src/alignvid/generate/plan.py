"""A generation that is decided in every number and checked in every part, before the weights are read."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from PIL import Image

from alignvid.errors import UnsupportedModel
from alignvid.files import user_path
from alignvid.generate.call import (
    Defaults,
    Settings,
    call_arguments,
    check_accepts,
    defaults_of,
    ignores_negative_prompt,
    settle,
)
from alignvid.generate.loading import ModelSource, find_model
from alignvid.generate.prompts import unknown_words_note
from alignvid.generate.recipes import parse_recipe
from alignvid.generate.sketch import Sketch, resolve, sketch
from alignvid.generate.spec import GenerationSpec
from alignvid.media.images import ReferenceImage, fit_image, read_image
from alignvid.recipe import Recipe

_MINIATURE_FPS = 8.0
_MINIATURE_GUIDANCE = 1.0  # where it neglects prompts as large models do


@dataclass(frozen=True)
class Plan:
    """What will run."""

    spec: GenerationSpec
    source: ModelSource
    settings: Settings
    reference: ReferenceImage | None
    """As read from the file."""
    image: Image.Image | None
    """As the model gets it: cropped to the shape of the video and scaled to its size."""
    recipe: Recipe | None
    """In place of the preset: a recorded recipe, or one that was written as text."""
    arguments: dict[str, Any]
    """Of the pipeline's call."""
    notes: list[str]
    """What the user should know, one sentence each."""


def plan(spec: GenerationSpec, *, source: ModelSource | None = None, recipe: Recipe | None = None) -> Plan:
    """Check everything that can be checked without the weights.

    Args:
        spec: What to make.
        source: The model, if it was found before.
        recipe: A recorded recipe, to be used in place of the preset.

    Raises: AlignvidError naming what is wrong and what to do.
    """
    reference = None if spec.image is None else read_image(user_path(spec.image), max_pixels=spec.max_pixels)
    source = source or find_model(spec.model)
    pipeline_class = pipeline_class_of(source)
    check_accepts(pipeline_class, spec)
    recipe = recipe_of(spec, sketch(source), recipe)
    settings = settle(spec, model_defaults(source, pipeline_class), reference.pixels if reference else None)
    image = fit_image(reference.pixels, settings.width, settings.height) if reference else None
    return Plan(
        spec=spec,
        source=source,
        settings=settings,
        reference=reference,
        image=image,
        recipe=recipe,
        arguments={**call_arguments(pipeline_class, spec, settings, image), **source.extra_arguments},
        notes=_notes(spec, source, settings, reference, pipeline_class),
    )


def recipe_of(spec: GenerationSpec, model: Sketch, recorded: Recipe | None = None) -> Recipe | None:
    """The recipe that acts in place of the preset, laid over the model to see that it fits; None for the preset.

    Raises: AlignvidError if it does not fit.
    """
    if recorded is None and spec.recipe is not None:
        return parse_recipe(spec.recipe, model)
    resolve(model, recorded or spec.preset, spec.recipe_overrides)
    return recorded


def warn_of(notes: list[str]) -> None:
    """Give notes to the user as Python warnings."""
    for note in notes:
        warnings.warn(note, stacklevel=3)


def pipeline_class_of(source: ModelSource) -> type:
    """The pipeline's class in diffusers. Raises: UnsupportedModel if this diffusers does not have it."""
    import diffusers

    found = getattr(diffusers, source.pipeline_class, None)
    if found is None:
        raise UnsupportedModel(
            f"{source.pipeline_class} of {source.name!r} is not in diffusers {diffusers.__version__}; "
            "update it: pip install --upgrade diffusers."
        )
    return found


def model_defaults(source: ModelSource, pipeline_class: type) -> Defaults:
    """What a model suggests where a spec leaves a number open."""
    if not source.is_miniature:
        return defaults_of(pipeline_class, source.index)
    from alignvid.miniature.drawing import FRAMES, HEIGHT, WIDTH
    from alignvid.miniature.evaluate import DEFAULT_STEPS

    size = {"width": WIDTH, "height": HEIGHT, "keeps_shape": False}
    return Defaults(**size, frames=FRAMES, steps=DEFAULT_STEPS, guidance=_MINIATURE_GUIDANCE, fps=_MINIATURE_FPS)


def _notes(
    spec: GenerationSpec,
    source: ModelSource,
    settings: Settings,
    reference: ReferenceImage | None,
    pipeline_class: type,
) -> list[str]:
    notes = list(reference.notes) if reference else []
    if source.is_miniature and (note := unknown_words_note(_unknown_words(spec.prompt))):
        notes.append(note)
    if spec.negative_prompt and ignores_negative_prompt(pipeline_class, settings):
        notes.append("The negative prompt has no effect here: this model acts on it only with a guidance above 1.")
    return notes


def _unknown_words(prompt: str) -> list[str]:
    from alignvid.miniature.prompts import unknown_words

    return unknown_words(prompt)
