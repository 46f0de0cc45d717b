"""Attach a recipe to a pipeline, and take it off again.

    with alignvid.attach(pipe) as attachment:
        video = pipe(image=image, prompt=prompt).frames[0]
    print(attachment)

All or nothing: every norm is resolved before the first is touched. A model carries one attachment at a time; a second
one is refused, because two overlapping recipes would make it unclear which of them a result shows.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from alignvid import presets
from alignvid.attachment.attachment import Attachment
from alignvid.attachment.gate import gate_of
from alignvid.attachment.placement import place_in_all, powers_for_streams
from alignvid.attachment.refusals import foreign_site, refuse_parts, warn_of_processor
from alignvid.errors import AttachmentError, ModulationError, UnknownPreset
from alignvid.host.sites import refusals_of, targets_of
from alignvid.host.transformers import Host, hosts
from alignvid.modulation import check_gamma
from alignvid.presets import Preset
from alignvid.recipe import Branch, Recipe
from alignvid.schedule import BlockSet, StepWindow

logger = logging.getLogger(__name__)

_EXTREME_GAIN = 10.0  # at ten times its logits a softmax is close to an argmax; the paper's largest gain is 1.82


def attach(
    pipe_or_transformer: Any,
    preset_or_recipe: str | Preset | Recipe | None = None,
    *,
    gamma: float | None = None,
    blocks: BlockSet | str | Iterable[int] | Mapping[str, Any] | None = None,
    steps: StepWindow | tuple[float, float] | str | None = None,
    streams: Iterable[str] | Mapping[str, float] | None = None,
    branch: Branch | None = None,
) -> Attachment:
    """Make a model follow its prompt better, until the attachment is detached.

    Args:
        pipe_or_transformer: a diffusers pipeline, or its transformer alone.
        preset_or_recipe: a preset's name, a preset file, a Preset or a Recipe; found from the model if None.
        gamma: factor on the attention logits; every gain is a power of it.
        blocks: [0, 2], "0,2-7", "first-half", "all", or one of these per stack.
        steps: (start, stop) in fractions of the steps, or a StepWindow such as `StepWindow.noise_above(0.9)`.
        streams: names such as "text" or "cross.text", or a mapping of targets to powers of gamma.
        branch: CFG branch to modulate, "both", "cond" or "uncond".

    Returns: the attachment: a context manager that detaches on exit, also on an error.
    Raises: UnsupportedModel, UnknownPreset, UnknownTarget, ScheduleError, ModulationError, RecipeError or
    AttachmentError; then
        the model is untouched.
    """
    if gamma is not None:
        check_gamma(gamma)
    found = hosts(pipe_or_transformer)
    pipeline = None if isinstance(pipe_or_transformer, nn.Module) else pipe_or_transformer
    name, recipe = _named_recipe(preset_or_recipe, found[0], pipeline)
    recipe = _overridden(recipe, found, pipeline, gamma, blocks, steps, streams, branch)
    for host in found:
        if (gate := gate_of(host)) is not None:
            raise AttachmentError(
                f"The {host.name} is already attached to, with {gate.name}. Detach that first: alignvid.detach(pipe)."
            )
    placements = place_in_all(recipe, found, pipeline)
    acted_on = [host for host in found if host.name in placements]
    for host in acted_on:
        refuse_parts(host, recipe.modulation, placements[host.name])
    _warn_of_extremes(recipe)
    if site := foreign_site([item for items in placements.values() for item in items]):
        warn_of_processor(site, stacklevel=3)
    attachment = Attachment(name, recipe, acted_on, placements, pipeline)
    attachment.install()
    logger.info("%s", attachment)
    return attachment


def detach(pipe_or_transformer: Any) -> None:
    """Take off whatever is attached to a pipeline or transformer; nothing attached is fine."""
    for host in hosts(pipe_or_transformer):
        if (gate := gate_of(host)) is not None:
            gate.detach()


def preset_for(pipe_or_transformer: Any) -> Preset:
    """The preset that `attach` uses when none is named."""
    host = hosts(pipe_or_transformer)[0]
    pipeline = None if isinstance(pipe_or_transformer, nn.Module) else pipe_or_transformer
    return _preset_of(host, pipeline)


def _preset_of(host: Host, pipeline: Any) -> Preset:
    config: Any = host.transformer.config
    checkpoints = [
        getattr(getattr(thing, "config", None), "_name_or_path", None) for thing in (pipeline, host.transformer)
    ]
    return presets.find(type(host.transformer).__name__, config, " ".join(str(name) for name in checkpoints if name))


def _named_recipe(wanted: str | Preset | Recipe | None, host: Host, pipeline: Any) -> tuple[str, Recipe]:
    if isinstance(wanted, Recipe):
        return "a recipe of your own", wanted
    if wanted is None:
        preset = _preset_of(host, pipeline)
    elif isinstance(wanted, Preset):
        preset = wanted
    elif isinstance(wanted, str):
        preset = presets.load(wanted)
    else:
        raise UnknownPreset(
            f"{wanted!r} is neither a preset's name nor a Recipe; choose from {', '.join(presets.names())}."
        )
    if preset.family not in ("*", host.family.name):
        raise UnknownPreset(
            f"The preset {preset.name} is for the family {preset.family}, but {type(host.transformer).__name__} is of "
            f"{host.family.name}; leave the preset out to have one chosen, or name 'generic'."
        )
    return preset.name, preset.recipe


def _overridden(
    recipe: Recipe, found: list[Host], pipeline: Any, gamma: Any, blocks: Any, steps: Any, streams: Any, branch: Any
) -> Recipe:
    powers = None
    if streams is not None:
        known = targets_of(found[0], pipeline), refusals_of(found[0], pipeline)
        powers = powers_for_streams(streams, recipe.modulation.powers, *known)
    return recipe.override(gamma=gamma, blocks=blocks, steps=steps, powers=powers, branch=branch)


def _warn_of_extremes(recipe: Recipe) -> None:
    gains = [recipe.modulation.gain(target) for target in recipe.modulation.powers]
    if not all(0.0 < gain < float("inf") for gain in gains):
        raise ModulationError(
            f"gamma {recipe.gamma:g} to its powers gives gains {gains}: choose a gamma nearer to 1.35."
        )
    if not all(1 / _EXTREME_GAIN <= gain <= _EXTREME_GAIN for gain in gains):
        warnings.warn(
            f"gamma {recipe.gamma:g} multiplies attention logits by up to {max(gains):g}; the paper uses 1.35, and "
            f"beyond {_EXTREME_GAIN:g} attention falls on single tokens.",
            stacklevel=3,
        )
