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
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from alignvid import presets
from alignvid.attachment.attachment import Attachment
from alignvid.attachment.gate import gate_of
from alignvid.attachment.in_force import in_force_for
from alignvid.attachment.placement import Placement, place_parts, powers_for_streams
from alignvid.attachment.refusals import foreign_site, refuse_of_pipeline, refuse_parts, warn_of_processor
from alignvid.errors import AttachmentError, ModulationError, UnknownPreset
from alignvid.host.fingerprint import fingerprint_of
from alignvid.host.given import given_levels
from alignvid.host.passes import check_passes
from alignvid.host.registry import pipeline_of
from alignvid.host.sites import refusals_of, targets_of
from alignvid.host.transformers import Host, hosts
from alignvid.modulation import check_gamma
from alignvid.presets import Preset
from alignvid.recipe import Branch, Recipe
from alignvid.schedule import BlockSet, FlowSchedule, StepWindow

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
    schedule: FlowSchedule | Sequence[float] | Tensor | None = None,
    passes: Sequence[str] | None = None,
    proof: bool = False,
) -> Attachment:
    """Make a model follow its prompt better, until the attachment is detached.

    Args:
        pipe_or_transformer: a diffusers pipeline, another object that a host describes, or a transformer alone.
        preset_or_recipe: a preset's name, a preset file, a Preset or a Recipe; found from the model if None.
        gamma: factor on the attention logits; every gain is a power of it.
        blocks: [0, 2], "0,2-7", "first-half", "all", or one of these per stack.
        steps: (start, stop) in fractions of the steps, or a StepWindow such as `StepWindow.noise_above(0.9)`.
        streams: names such as "text" or "cross.text", or a mapping of targets to powers of gamma.
        branch: CFG branch to modulate, "both", "cond" or "uncond".
        schedule: of a bare transformer, which does not say its steps: the timesteps that its loop runs, as the
            transformer is given them, or a FlowSchedule. A forward at another timestep is then an error.
        passes: of a bare transformer, which does not say its branch: those of each step in their order, such as
            ("cond", "uncond"), or ("uncond+cond",) for one batch of both. A forward beyond them is then an error.
        proof: measure in each run what the gain changes, for `Attachment.proof()`: about one forward more a run.

    Returns: the attachment: a context manager that detaches on exit, also on an error.
    Raises: UnsupportedModel, UnknownPreset, UnknownTarget, ScheduleError, ModulationError, RecipeError or
    AttachmentError; then the model is untouched.
    """
    if gamma is not None:
        check_gamma(gamma)
    found = hosts(pipe_or_transformer)
    pipeline = pipeline_of(pipe_or_transformer)
    name, recipe = _named_recipe(preset_or_recipe, found[0], pipeline)
    recipe = _overridden(recipe, found, pipeline, gamma, blocks, steps, streams, branch)
    for host in found:
        if (gate := gate_of(host)) is not None:
            raise AttachmentError(
                f"The {host.name} is already attached to, with {gate.name}. Detach that first: alignvid.detach(pipe)."
            )
    for earlier in in_force_for(pipeline):
        warnings.warn(
            f"AlignVid {earlier.name} is in force on a transformer that this pipeline has no longer, and acts there "
            "until that is detached.",
            stacklevel=2,
        )
    refuse_of_pipeline(pipeline, schedule, passes)
    levels = [] if schedule is None else given_levels(schedule, found[0])
    given_passes = () if passes is None else check_passes(passes)
    placed = place_parts(recipe, found, pipeline)
    for part, by_host in zip(recipe.parts, placed, strict=True):
        for host in found:
            refuse_parts(host, part.modulation, by_host.get(host.name, ()))
    for part in recipe.parts:
        _warn_of_extremes(part)
    if site := foreign_site([item for by_host in placed for items in by_host.values() for item in items]):
        warn_of_processor(site, stacklevel=3)
    return _put_on(name, recipe, found, pipeline, placed, levels, given_passes, proof)


def _put_on(
    name: str,
    recipe: Recipe,
    found: Sequence[Host],
    pipeline: Any,
    placed: Sequence[Mapping[str, Sequence[Placement]]],
    levels: Sequence[float],
    passes: Sequence[str],
    proof: bool,
) -> Attachment:
    """Put a recipe that was laid over a model in force."""
    acted_on = [host for host in found if any(host.name in by_host for by_host in placed)]

    def again(copied: Any) -> None:
        anew = hosts(copied)
        _put_on(name, recipe, anew, copied, place_parts(recipe, anew, copied), levels, passes, proof)

    attachment = Attachment(name, recipe, acted_on, placed, pipeline, levels, passes, proof=proof, attach_again=again)
    attachment.install()
    logger.info("%s", attachment)
    return attachment


def detach(pipe_or_transformer: Any) -> None:
    """Take off whatever is attached to a pipeline or transformer; nothing attached is fine.

    What was attached through the pipeline to a transformer that it has no longer is taken off, too, with a warning.
    """
    for host in hosts(pipe_or_transformer):
        if (gate := gate_of(host)) is not None:
            gate.part_of.detach()
    for in_force in in_force_for(pipeline_of(pipe_or_transformer)):
        in_force.detach()


def preset_for(pipe_or_transformer: Any) -> Preset:
    """The preset that `attach` uses when none is named."""
    host = hosts(pipe_or_transformer)[0]
    pipeline = pipeline_of(pipe_or_transformer)
    return _preset_of(host, pipeline)


def _preset_of(host: Host, pipeline: Any) -> Preset:
    return presets.find(fingerprint_of(host, pipeline))


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
    if preset.family not in ("*", host.family.preset_family):
        raise UnknownPreset(
            f"The preset {preset.name} is for the family {preset.family}, but {type(host.transformer).__name__} is of "
            f"{host.family.preset_family}; leave the preset out to have one chosen, or name 'generic'."
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
