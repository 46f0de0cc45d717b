"""Where a trace comes from: which models, which versions, what was observed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn

from alignvid.blocks import BlockSet
from alignvid.host.transformers import Host
from alignvid.schedule import StepWindow


def origin_of(hosts: Sequence[Host], blocks: BlockSet, steps: StepWindow) -> dict[str, Any]:
    """Plain data that distinguishes two runs of one model from runs of two models."""
    return {
        "versions": {"torch": torch.__version__, **_installed("alignvid", "diffusers")},
        "models": {host.name: _model(host) for host in hosts},
        "blocks": str(blocks),
        "steps": steps.to_dict(),
        "attached": {},
    }


def _installed(*packages: str) -> dict[str, str]:
    """Their versions; one that is not installed, or runs from a folder on the path, is left out."""
    versions = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def _model(host: Host) -> dict[str, Any]:
    fields = {name: value for name, value in _config_of(host.transformer).items() if not name.startswith("_")}
    return {
        "transformer": type(host.transformer).__name__,
        "family": host.family.name,
        "config_sha256": hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest(),
    }


def _config_of(transformer: nn.Module) -> dict[str, Any]:
    """The model's config; the shapes of its weights, if it has none that is a mapping."""
    config = getattr(transformer, "config", None)
    if isinstance(config, Mapping):
        return dict(config)
    return {name: tuple(weight.shape) for name, weight in transformer.named_parameters()}
