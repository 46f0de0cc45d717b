"""Where a trace comes from: which models, which versions, what was observed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import diffusers
import torch

import alignvid
from alignvid.host.transformers import Host
from alignvid.schedule import BlockSet, StepWindow


def origin_of(hosts: Sequence[Host], blocks: BlockSet, steps: StepWindow) -> dict[str, Any]:
    """Plain data that tells two runs of one model from runs of two models."""
    return {
        "versions": {"alignvid": alignvid.__version__, "torch": torch.__version__, "diffusers": diffusers.__version__},
        "models": {host.name: _model(host) for host in hosts},
        "blocks": str(blocks),
        "steps": steps.to_dict(),
        "attached": {},
    }


def _model(host: Host) -> dict[str, Any]:
    config: Any = host.transformer.config
    fields = {name: value for name, value in dict(config).items() if not name.startswith("_")}
    return {
        "transformer": type(host.transformer).__name__,
        "family": host.family.name,
        "config_sha256": hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest(),
    }
