"""Attach a recipe to a pipeline, and take it off again.

    with alignvid.attach(pipe) as attachment:
        video = pipe(image=image, prompt=prompt).frames[0]
    print(attachment)

All or nothing: every norm is resolved before the first is touched. A model carries one attachment at a time; a second
one is refused, because two overlapping recipes would make it unclear which of them a result shows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from alignvid.attachment.attachment import Attachment
from alignvid.attachment.gated import gate_of, refuse_attached
from alignvid.attachment.in_force import in_force_for
from alignvid.attachment.layout import Layout, acts_on_tokens, preset_of, resolve
from alignvid.attachment.others import watch_of
from alignvid.attachment.refusals import foreign_site, refuse_of_pipeline, warn_of_processor
from alignvid.blocks import BlockSet
from alignvid.host.branches import check_passes
from alignvid.host.contract import Contract
from alignvid.host.given import given_levels
from alignvid.host.registry import pipeline_of, silent_passes
from alignvid.host.transformers import hosts
from alignvid.host.words import check_prompts
from alignvid.modulation import Modulation, check_gamma
from alignvid.presets import Preset
from alignvid.recipe import Branch, Recipe
from alignvid.schedule import FlowSchedule, StepWindow

logger = logging.getLogger(__name__)

_EXTREME_GAIN = 10.0  # at ten times its logits a softmax is close to an argmax; the paper's largest gain is 1.82


def attach(
    pipe_or_transformer: Any,
    preset_or_recipe: str | Preset | Recipe | Modulation | None = None,
    *,
    gamma: float | None = None,
    blocks: BlockSet | str | Iterable[int] | Mapping[str, Any] | None = None,
    steps: StepWindow | tuple[float, float] | str | None = None,
    streams: Iterable[str] | Mapping[str, float] | None = None,
    branch: Branch | None = None,
    words: Mapping[str, float] | None = None,
    follow: float | None = None,
    schedule: FlowSchedule | Sequence[float] | Tensor | None = None,
    passes: Sequence[str] | None = None,
    proof: bool = False,
    strict: bool = False,
) -> Attachment:
    """Make a model follow its prompt better, until the attachment is detached.

    Args:
        pipe_or_transformer: a diffusers pipeline, another object that a host describes, or a transformer alone.
        preset_or_recipe: a preset's name, a preset file, a Preset, a Recipe, or a modulation with the blocks and steps
            that are usual for its kind; found from the model if None.
        gamma: factor on the attention logits; every gain is a power of it.
        blocks: [0, 2], "0,2-7", "first-half", "all", or one of these per stack.
        steps: (start, stop) in fractions of the steps, or a StepWindow such as `StepWindow.noise_above(0.9)`.
        streams: names such as "text" or "cross.text", or a mapping of targets to powers of gamma.
        branch: CFG branch to modulate, "both", "cond" or "uncond".
        words: factors on the attention logits of words or phrases of the prompt, {"sunglasses": 1.6}, beside the recipe
            and in its blocks and steps; with gamma=1 they act alone. They are looked for in each prompt that is run.
        follow: one number in place of a preset, gamma and streams: from -1, the picture, to 1, the prompt. 0 leaves the
            model as it is.
        schedule: of a bare transformer, which does not say its steps: the timesteps that its loop runs, as the
            transformer is given them, or a FlowSchedule. A forward at another timestep is then an error.
        passes: of a bare transformer, which does not say its branch: those of each step in their order, such as
            ("cond", "uncond"), or ("uncond+cond",) for one batch of both. A forward beyond them is then an error.
        proof: measure in each run what the gain changes, for `Attachment.proof()`: about one forward more a run.
        strict: raise a ContractError where there would be a ContractWarning: wherever a gain does not act as the recipe
            says, or that cannot be known, now, in a run or on detaching.

    Examples:
        >>> with alignvid.attach(pipe, gamma=1.5, blocks="first-half", steps=(0.0, 0.5)) as attachment:
        ...     frames = pipe(image, "add a green circle at the top left", **size).frames[0]
        >>> attachment.active_forward_count, attachment.forward_count
        (2, 4)
        >>> attachment.is_attached
        False

    Returns: the attachment: a context manager that detaches on exit, also on an error.
    Raises: UnsupportedModel, UnknownPreset, UnknownTarget, WordError, ScheduleError, ModulationError,
    RecipeError or AttachmentError; then the model is untouched.
    """
    if gamma is not None:
        check_gamma(gamma)
    contract = Contract(is_strict=strict)
    found = hosts(pipe_or_transformer)
    pipeline = pipeline_of(pipe_or_transformer)
    refuse_attached(found)
    refuse_of_pipeline(pipeline, schedule, passes)
    levels = [] if schedule is None else given_levels(schedule, found[0])
    given_passes = silent_passes(pipe_or_transformer) if passes is None else check_passes(passes)
    changes: dict[str, Any] = {"gamma": gamma, "blocks": blocks, "steps": steps, "streams": streams, "branch": branch}
    layout = resolve(found, pipeline, preset_or_recipe, **changes, words=words, follow=follow)
    if acts_on_tokens(layout.recipe):
        check_prompts(pipeline)
    for earlier in in_force_for(pipeline):
        contract.warn(
            "earlier attachment",
            f"AlignVid {earlier.name} is in force on a transformer that this pipeline has no longer, and acts there "
            "until that is detached.",
        )
    _warn_of_extremes(contract, layout)
    if site := foreign_site(layout.placements):
        warn_of_processor(contract, site)
    return _put_on(layout, pipeline, levels, given_passes, proof, contract)


def _put_on(
    layout: Layout, pipeline: Any, levels: Sequence[float], passes: Sequence[str], proof: bool, contract: Contract
) -> Attachment:
    """Put a recipe that was laid over a model in force."""
    name, recipe = layout.name, layout.recipe

    def again(copied: Any) -> None:  # holds no layout: a copy must not keep the model alive that it was copied from
        anew = Layout.of(name, recipe, hosts(copied), copied)
        _put_on(anew, copied, levels, passes, proof, Contract(is_strict=contract.is_strict))

    attachment = Attachment(layout, pipeline, levels, passes, proof=proof, contract=contract, attach_again=again)
    attachment.install()
    logger.info("%s", attachment)
    return attachment


def detach(pipe_or_transformer: Any) -> None:
    """Take off whatever is attached to a pipeline or transformer; nothing attached is fine.

    What was attached through the pipeline to a transformer that it has no longer is taken off, too, with a warning.

    Examples:
        >>> attachment = alignvid.attach(pipe, gamma=1.5)
        >>> attachment.is_attached
        True
        >>> alignvid.detach(pipe)
        >>> attachment.is_attached
        False
    """
    for host in hosts(pipe_or_transformer):
        if (gate := gate_of(host)) is not None:
            gate.part_of.detach()
    pipeline = pipeline_of(pipe_or_transformer)
    for in_force in in_force_for(pipeline):
        in_force.detach()
    if (others := watch_of(pipeline)) is not None:  # what was attached to was freed
        others.detach()


def preset_for(pipe_or_transformer: Any) -> Preset:
    """The preset that `attach` uses when none is named.

    Examples:
        >>> preset = alignvid.preset_for(pipe)
        >>> preset.name
        'miniature:calibrated'
        >>> print(preset.recipe.steps)
        0% to 100% of the steps

    Raises: UnsupportedModel if no family knows the model.
    """
    return preset_of(hosts(pipe_or_transformer)[0], pipeline_of(pipe_or_transformer))


def _warn_of_extremes(contract: Contract, layout: Layout) -> None:
    """Several modulations on one target multiply."""
    gains = layout.summary.gains.values()
    most = max(gains, default=1.0)
    if most > _EXTREME_GAIN or min(gains, default=1.0) < 1 / _EXTREME_GAIN:
        contract.warn(
            "extreme gain",
            f"gamma {' and '.join(f'{part.gamma:g}' for part in layout.recipe.parts)} multiplies attention logits by "
            f"up to {most:g}; the paper uses 1.35, and beyond {_EXTREME_GAIN:g} attention falls on single tokens.",
        )
