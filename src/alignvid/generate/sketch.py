"""A model without its weights: enough to say what it is made of, and what a recipe would touch in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from alignvid import presets
from alignvid.attachment.attachment import Attachment
from alignvid.attachment.placement import place_parts, powers_for_streams
from alignvid.errors import InputError, UnknownPreset
from alignvid.generate.loading import TRANSFORMER_PARTS, ModelSource, find_model
from alignvid.host import Host
from alignvid.host.fingerprint import fingerprint_of
from alignvid.host.sites import key_norms, refusals_of, targets_of
from alignvid.models import family_of
from alignvid.models.paths import blocks_of
from alignvid.presets import Preset
from alignvid.recipe import Recipe

_STATIC_FACTS = ("name", "recipe", "blocks", "gains", "sites")
"""What an attachment says of itself before it has acted."""


@dataclass(frozen=True)
class Sketch:
    """The transformers of a pipeline on the meta device, in the shape of the pipeline as far as families look at it."""

    source: ModelSource
    """The model."""
    config: Mapping[str, Any]
    """The pipeline's own settings."""
    components: Mapping[str, Any]
    """Its parts by name; only transformers are there, the others are None."""
    scheduler: None = field(default=None, init=False)
    """Not loaded: it depends on the run."""

    @property
    def hosts(self) -> list[Host]:
        """The transformers with their families."""
        present = [(name, self.components[name]) for name in TRANSFORMER_PARTS if self.components.get(name) is not None]
        return [Host(name, module, module, family_of(module)) for name, module in present]


def sketch(source: ModelSource) -> Sketch:
    """Build the model's transformers from their configs alone.

    Raises: InputError if a config does not describe a transformer.
    """
    parts = {name: entry for name, entry in source.index.items() if isinstance(entry, list) and len(entry) == 2}
    components = {name: None for name in parts}
    for name in TRANSFORMER_PARTS:
        if parts.get(name, [None, None])[1] is not None:
            path = "config.json" if source.is_bare_framepack else f"{name}/config.json"
            components[name] = _without_weights(source, parts[name][1], source.read_json(path))
    return Sketch(source, source.index, components)


def resolve(model: Sketch, preset: str | Recipe | None, overrides: Mapping[str, Any]) -> Attachment:
    """The attachment that `alignvid.attach` would make with these arguments; it is never put in force.

    Raises: what `alignvid.attach` raises: an unknown preset, block, stack or stream, or a preset of another family.
    """
    name, recipe = _named_recipe(model, preset)
    hosts, streams = model.hosts, overrides["streams"]
    powers = None
    if streams is not None:
        known = targets_of(hosts[0], model), refusals_of(hosts[0], model)
        powers = powers_for_streams(streams, recipe.modulation.powers, *known)
    rest = {key: value for key, value in overrides.items() if key != "streams"}
    recipe = recipe.override(powers=powers, **rest)
    placed = place_parts(recipe, hosts, model)
    return Attachment(
        name,
        recipe,
        [host for host in hosts if any(host.name in by_host for by_host in placed)],
        placed,
        model,
        proof=False,
        attach_again=lambda copied: None,
    )


def find_preset(model: Sketch) -> Preset:
    """The preset made for this model, else the generic one."""
    return presets.find(replace(fingerprint_of(model.hosts[0], model), checkpoint=model.source.location))


def inspect_model(name: str, preset: str | None) -> dict[str, Any]:
    """What a model is made of, the preset that is laid over it, and what that would touch.

    Raises: AlignvidError if the model or the preset is unknown, or they do not fit.
    """
    model = sketch(find_model(name))
    nothing = {"gamma": None, "blocks": None, "steps": None, "streams": None, "branch": None}
    attachment = resolve(model, preset, nothing)
    touches = {key: value for key, value in attachment.to_dict().items() if key in _STATIC_FACTS}
    return {**describe(model), "touches": {**touches, "summary": _summary(attachment)}}


def describe(model: Sketch) -> dict[str, Any]:
    """What the model is made of: transformers, stacks, blocks, sites and streams."""
    return {
        "model": model.source.name,
        "pipeline": model.source.pipeline_class,
        "family": model.hosts[0].family.name,
        "transformers": [_describe_host(model, host) for host in model.hosts],
    }


def _summary(attachment: Attachment) -> str:
    places = "; ".join(
        f"{host}: blocks {blocks} of `{stack}`"
        for host in attachment.placements
        for stack, blocks in attachment.blocks(host).items()
    )
    recipe = attachment.recipe
    return (
        f"{attachment.name} would touch {attachment.site_count} attentions ({places}) "
        f"at {recipe.steps}, CFG branch {recipe.branch}: {', '.join(attachment.actions)}"
    )


def _describe_host(model: Sketch, host: Host) -> dict[str, Any]:
    streams: dict[str, dict[str, list[str]]] = {}
    for location in key_norms(host, model):
        of_site = streams.setdefault(location.stack, {}).setdefault(location.site, [])
        of_site.extend(stream for stream in location.keys.streams if stream not in of_site)
    stacks = host.family.stacks_of(host.transformer, model)
    return {
        "name": host.name,
        "class": type(host.transformer).__name__,
        "stacks": [
            {"name": stack.name, "blocks": len(blocks_of(host.transformer, stack.name)), "sites": streams[stack.name]}
            for stack in stacks
            if stack.name in streams
        ],
    }


def _named_recipe(model: Sketch, preset: str | Recipe | None) -> tuple[str, Recipe]:
    if isinstance(preset, Recipe):
        return "recorded recipe", preset
    chosen = find_preset(model) if preset is None else presets.load(preset)
    family = model.hosts[0].family.preset_family
    if chosen.family not in ("*", family):
        raise UnknownPreset(
            f"The preset {chosen.name} is for the family {chosen.family}, but {model.source.name!r} is of {family}; "
            "leave the preset out to have one chosen, or name 'generic'."
        )
    return chosen.name, chosen.recipe


def _without_weights(source: ModelSource, class_name: str, config: Mapping[str, Any]) -> Any:
    import diffusers
    import torch

    try:
        with torch.device("meta"):
            return getattr(diffusers, class_name).from_config(dict(config))
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        named = config.get("_class_name", class_name)
        reason = str(error) if named == class_name else f"it is that of a {named}"
        raise InputError(
            f"The config of {class_name} in {source.name!r} does not describe one: {reason}; save the model again."
        ) from error
