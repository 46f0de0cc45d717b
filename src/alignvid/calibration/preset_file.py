"""The preset that a calibration makes, as a TOML file that `alignvid.attach` takes by its path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from alignvid.calibration.choose import BlockRatio
from alignvid.errors import MissingExtra
from alignvid.recipe import Recipe

SCHEMA_VERSION = 1
READING = "calibrated"

_DIGITS = 6  # of a ratio; a mean over 50 pairs has no more


def preset_bytes(
    *, title: str, family: str, recipe: Recipe, facts: Mapping[str, Any], blocks: Sequence[BlockRatio]
) -> bytes:
    """A preset with one reading, and all that was measured in its table `calibration`.

    Raises: MissingExtra if tomli-w is not installed.
    """
    try:
        import tomli_w
    except ImportError as error:
        raise MissingExtra('Writing a preset needs tomli-w; type: pip install "alignvid[calibrate]"') from error
    content = {
        "title": title,
        "family": family,
        "default": READING,
        "readings": {READING: {"provenance": provenance(facts), "recipe": recipe.to_dict()}},
        "calibration": {"schema_version": SCHEMA_VERSION, **facts, "blocks": [_row(block) for block in blocks]},
    }
    return tomli_w.dumps(content).encode()


def provenance(facts: Mapping[str, Any]) -> str:
    """Where a preset comes from, in a sentence."""
    versions = facts["versions"]
    return (
        f"Calibration on {facts['pairs']} image-prompt pairs of {facts['data']} (sha256 {facts['data_sha256'][:12]}): "
        f"blocks with a foreground ratio above {facts['tau']:g}, foreground from {facts['foreground_detail']}; "
        f"seed {facts['seed']}, {facts['steps']} steps, alignvid {versions['alignvid']}, "
        f"diffusers {versions['diffusers']}, torch {versions['torch']}."
    )


def _row(block: BlockRatio) -> dict[str, Any]:
    return {name: round(value, _DIGITS) if isinstance(value, float) else value for name, value in asdict(block).items()}
