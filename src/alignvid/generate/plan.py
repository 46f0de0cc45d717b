"""A generation that is decided in every number and checked in every part, before the weights are read."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from alignvid.attachment.layout import Layout
from alignvid.errors import InputError, UnsupportedModel
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
from alignvid.generate.choice import Choice, choice_of, model_line, settings_lines
from alignvid.generate.device import choose_device
from alignvid.generate.guidance import check_schedule, guided_until
from alignvid.generate.loading import ModelSource, find_model
from alignvid.generate.prompts import foreign_picture_note, unknown_words_note
from alignvid.generate.recipes import parse_recipe
from alignvid.generate.sketch import Sketch, resolve, sketch
from alignvid.generate.spec import MINIATURE, GenerationSpec
from alignvid.media.images import ReferenceImage, fit_image, read_image
from alignvid.recipe import Recipe

_MINIATURE_FPS = 8.0
DISTILLED_STEPS = 4
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
    choice: Choice
    """The preset and recipe that act, and how they fit the model."""
    notes: list[str]
    """What the user should know, one sentence each."""

    def lines(self) -> dict[str, str]:
        """What will run, for who watches: a text under each heading."""
        return {
            **model_line(self.source),
            **self.choice.lines(),
            **settings_lines(self.settings, self.spec),
        }


class Laid(NamedTuple):
    """A recipe on a model without weights."""

    recipe: Recipe | None
    """What acts in place of the preset, a recorded recipe or one that was written as text; None for the preset."""
    layout: Layout


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
    choose_device(spec.device, spec.dtype, spec.offload)
    model = sketch(source)
    chosen = layout_of(spec, model, recipe)
    settings = settle(spec, model_defaults(source, pipeline_class), reference.pixels if reference else None)
    if source.is_miniature:
        _check_miniature(source, settings)
    image = fit_image(reference.pixels, settings.width, settings.height) if reference else None
    arguments = {**call_arguments(pipeline_class, spec, settings, image), **source.extra_arguments}
    if spec.cfg_high is not None:
        check_schedule(pipeline_class, spec.cfg_high, settings.guidance)
        arguments["callback_on_step_end"] = guided_until(spec.cfg_high)
    return Plan(
        spec=spec,
        source=source,
        settings=settings,
        reference=reference,
        image=image,
        recipe=chosen.recipe,
        arguments=arguments,
        choice=choice_of(spec, model, chosen.layout.summary, recipe),
        notes=_notes(spec, source, settings, reference, pipeline_class),
    )


def layout_of(spec: GenerationSpec, model: Sketch, recorded: Recipe | None = None) -> Laid:
    """What acts, laid over the model.

    Raises: AlignvidError if it does not fit.
    """
    is_text = recorded is None and spec.recipe is not None
    recipe = parse_recipe(spec.recipe, model) if is_text and spec.recipe else recorded
    return Laid(recipe, resolve(model, recipe or spec.preset, spec.overrides_of(recipe)))


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
    steps = DISTILLED_STEPS if source.is_distilled else DEFAULT_STEPS
    return Defaults(**size, frames=FRAMES, steps=steps, guidance=_MINIATURE_GUIDANCE, fps=_MINIATURE_FPS)


def _check_miniature(source: ModelSource, settings: Settings) -> None:
    """Refuse sizes that it cannot do, and of the distilled one any other number of steps than its own."""
    from alignvid.miniature.sizes import check_size

    check_size(source.read_json("transformer/config.json"), settings.width, settings.height, settings.frames or 1)
    if source.is_distilled and settings.steps != DISTILLED_STEPS:
        raise InputError(
            f"{source.name!r} runs in {DISTILLED_STEPS} steps, and was given {settings.steps}; leave steps out, or "
            f"take {MINIATURE!r}."
        )


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
    if source.is_miniature and reference and (note := foreign_picture_note(_why_foreign(reference.pixels))):
        notes.append(note)
    if spec.negative_prompt and ignores_negative_prompt(pipeline_class, settings):
        notes.append("The negative prompt has no effect here: this model acts on it only with a guidance above 1.")
    return notes


def _unknown_words(prompt: str) -> list[str]:
    from alignvid.miniature.prompts import unknown_words

    return unknown_words(prompt)


def _why_foreign(picture: Image.Image) -> str | None:
    """Why a picture is outside the miniature's world, at the miniature's size; None if it is inside."""
    from alignvid.miniature.drawing import HEIGHT, WIDTH
    from alignvid.miniature.picture import unlike_the_world

    return unlike_the_world(np.asarray(fit_image(picture, WIDTH, HEIGHT)))
