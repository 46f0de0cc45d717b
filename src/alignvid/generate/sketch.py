"""A model without its weights: enough to say what it is made of, and what a recipe would touch in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from alignvid.attachment import layout
from alignvid.attachment.layout import Layout
from alignvid.errors import InputError
from alignvid.generate.loading import TRANSFORMER_PARTS, ModelSource, find_model
from alignvid.host import Host
from alignvid.host.sites import key_norms
from alignvid.models import family_of
from alignvid.models.paths import blocks_of
from alignvid.presets import Preset
from alignvid.recipe import Recipe


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
    location = source.name if source.is_distilled else source.location
    return Sketch(source, {**source.index, "_name_or_path": location}, components)


def resolve(model: Sketch, preset: str | Recipe | None, overrides: Mapping[str, Any]) -> Layout:
    """What `alignvid.attach` would put in force with these arguments.

    Raises: what `alignvid.attach` raises: an unknown preset, block, stack or stream, or a preset of another family.
    """
    laid = layout.resolve(model.hosts, model, preset, **overrides)
    layout.check_effects(laid)
    return laid


def find_preset(model: Sketch) -> Preset:
    """The preset made for this model, else the generic one."""
    return layout.preset_of(model.hosts[0], model)


def inspect_model(name: str, preset: str | None) -> dict[str, Any]:
    """What a model is made of, the preset that is laid over it, and what that would touch.

    Raises: AlignvidError if the model or the preset is unknown, or they do not fit.
    """
    model = sketch(find_model(name))
    nothing = {"gamma": None, "blocks": None, "steps": None, "streams": None, "branch": None}
    summary = resolve(model, preset, nothing).summary
    words = f"{summary.name} would touch {summary.site_count} attentions: {summary.plan}"
    return {**describe(model), "touches": {**summary.to_dict(), "summary": words}}


def describe(model: Sketch) -> dict[str, Any]:
    """What the model is made of: transformers, stacks, blocks, sites and streams."""
    return {
        "model": model.source.name,
        "pipeline": model.source.pipeline_class,
        "family": model.hosts[0].family.name,
        "transformers": [_describe_host(model, host) for host in model.hosts],
    }


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
