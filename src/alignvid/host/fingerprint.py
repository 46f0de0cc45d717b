"""What a live model is recognised by, for the presets that are made for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alignvid.host.transformers import Host
from alignvid.models.paths import blocks_of
from alignvid.presets.fingerprint import Fingerprint

_LOCATION = "_name_or_path"


def fingerprint_of(host: Host, pipeline: Any = None) -> Fingerprint:
    """The make and sizes of a host's transformer; `pipeline` is None for a bare one."""
    family, transformer = host.family, host.transformer
    layers = {stack.name: len(blocks_of(transformer, stack.name)) for stack in family.stacks_of(transformer, pipeline)}
    sizes = family.sizes(transformer)
    return Fingerprint(family.preset_family, layers, *sizes, checkpoint=_checkpoints(pipeline, transformer))


def _checkpoints(*things: Any) -> str:
    """Where they were loaded from, as their configs say; empty if none does."""
    named = (_location(getattr(thing, "config", None)) for thing in things)
    return " ".join(str(name) for name in named if name)


def _location(config: Any) -> Any:
    return config.get(_LOCATION) if isinstance(config, Mapping) else getattr(config, _LOCATION, None)
