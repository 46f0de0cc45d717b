"""A layout: a recipe resolved on the transformers of a model, before anything of them is touched.

`alignvid.attach` resolves one and puts it in force; a plan resolves one on a model without weights, and prints it. What
a model cannot be asked for is refused here, for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignvid import presets
from alignvid.attachment.effects import effects_of
from alignvid.attachment.placement import Placement, place_parts, powers_for_streams
from alignvid.attachment.refusals import refuse_parts
from alignvid.attachment.summary import Summary
from alignvid.blocks import BlockSet
from alignvid.errors import ModulationError, RecipeError, UnknownPreset
from alignvid.host.fingerprint import fingerprint_of
from alignvid.host.sites import refusals_of, targets_of
from alignvid.host.transformers import Host
from alignvid.host.words import check_family
from alignvid.modulation import INNER_STREAMS, Modulation, split_target
from alignvid.presets import Preset
from alignvid.presets.follow import recipe_at
from alignvid.recipe import Branch, Recipe
from alignvid.schedule import StepWindow


@dataclass(frozen=True)
class Layout:
    """Which norms of which transformers get which gains."""

    name: str
    """The preset's name, or words for a recipe without one."""
    recipe: Recipe
    """What was asked for."""
    hosts: Sequence[Host]
    """The transformers that are acted on."""
    placed: Sequence[Mapping[str, Sequence[Placement]]]
    """For each modulation of the recipe, the norms and gains of each host, by its name."""

    @classmethod
    def of(cls, name: str, recipe: Recipe, found: Sequence[Host], pipeline: Any) -> Layout:
        """Lay a recipe over some transformers.

        Raises: UnknownTarget, RecipeError or ModulationError for what they do not have, or cannot have together;
        AttachmentError where they hold parts of sequences and the recipe needs them whole.
        """
        _refuse_endless_gains(recipe)
        placed = place_parts(recipe, found, pipeline)
        for part, by_host in zip(recipe.parts, placed, strict=True):
            for host in found:
                refuse_parts(host, part.modulation, by_host.get(host.name, ()))
        return cls(name, recipe, [host for host in found if any(host.name in by_host for by_host in placed)], placed)

    @property
    def placements(self) -> list[Placement]:
        """Those of all transformers and modulations."""
        return [item for by_host in self.placed for items in by_host.values() for item in items]

    @property
    def summary(self) -> Summary:
        """What can be said of it without the model."""
        return Summary.of(self.name, self.recipe, self.placed)


def resolve(
    found: Sequence[Host],
    pipeline: Any,
    wanted: str | Preset | Recipe | Modulation | None,
    *,
    gamma: float | None = None,
    blocks: BlockSet | str | Iterable[int] | Mapping[str, Any] | None = None,
    steps: StepWindow | tuple[float, float] | str | None = None,
    streams: Iterable[str] | Mapping[str, float] | None = None,
    branch: Branch | None = None,
    words: Mapping[str, float] | None = None,
    follow: float | None = None,
) -> Layout:
    """Lay a preset or recipe over a model, changed as `alignvid.attach` takes changes.

    Args:
        found: the transformers.
        pipeline: what runs them; None for a bare transformer.
        wanted: found from the model if None.
        gamma: as `alignvid.attach`.
        blocks: as `alignvid.attach`.
        steps: as `alignvid.attach`.
        streams: as `alignvid.attach`.
        branch: as `alignvid.attach`.
        words: as `alignvid.attach`.
        follow: as `alignvid.attach`.

    Raises: UnknownPreset, WordError, RecipeError, and as `Layout.of`.
    """
    if follow is None:
        name, recipe = _named_recipe(wanted, found[0], pipeline)
    else:
        _refuse_beside_follow(preset=wanted, gamma=gamma, streams=streams)
        recipe = recipe_at(follow, found[0].family.preset_family)
        name = f"follow {follow:+g}"
    powers = None
    if streams is not None:
        known = targets_of(found[0], pipeline), refusals_of(found[0], pipeline)
        powers = powers_for_streams(streams, recipe.modulation.powers, *known)
    recipe = recipe.override(gamma=gamma, blocks=blocks, steps=steps, powers=powers, branch=branch)
    recipe = recipe if words is None else recipe.emphasising(words)
    if acts_on_tokens(recipe):
        for host in found:
            check_family(host.family)
    return Layout.of(name, recipe, found, pipeline)


def acts_on_tokens(recipe: Recipe) -> bool:
    """Whether it acts on parts of the text, so that a prompt's tokens must be known."""
    targets = [target for part in recipe.parts for target in part.modulation.powers]
    return any(split_target(target)[1] in INNER_STREAMS for target in targets)


def check_effects(layout: Layout) -> None:
    """Refuse, without putting anything on, what a kind of modulation cannot do to these transformers.

    Raises: UnknownTarget, as attaching would.
    """
    for part, by_host in zip(layout.recipe.parts, layout.placed, strict=True):
        for host in layout.hosts:
            if host.name in by_host:
                effects_of(part.modulation, host, by_host[host.name])


def preset_of(host: Host, pipeline: Any) -> Preset:
    """The preset made for a model, else the generic one."""
    return presets.find(fingerprint_of(host, pipeline))


def _named_recipe(wanted: str | Preset | Recipe | Modulation | None, host: Host, pipeline: Any) -> tuple[str, Recipe]:
    if isinstance(wanted, Recipe):
        return "a recipe of your own", wanted
    if isinstance(wanted, Modulation):
        return wanted.kind, Recipe.of(wanted)
    if wanted is None:
        preset = preset_of(host, pipeline)
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


def _refuse_beside_follow(**others: Any) -> None:
    if given := [name for name, value in others.items() if value is not None]:
        raise RecipeError(
            f"follow says which keys are scaled and how much, so that {given[0]} says nothing beside it; leave one of "
            "them out."
        )


def _refuse_endless_gains(recipe: Recipe) -> None:
    for part in recipe.parts:
        gains = [part.modulation.gain(target) for target in part.modulation.powers]
        if not all(0.0 < gain < float("inf") for gain in gains):
            raise ModulationError(
                f"gamma {part.gamma:g} to its powers gives gains {gains}: choose a gamma nearer to 1.35."
            )
