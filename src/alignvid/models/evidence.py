"""What the tests of families found on each pipeline: data that they write, for the model table.

The data lie beside this file. A tiny pipeline of the real class, built from a config, was run; nothing here was found
on released weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

from alignvid.models.family import Family

DATA = "evidence.json"
COMBINATIONS = "combined.json"


@dataclass(frozen=True)
class PipelineFacts:
    """One pipeline class."""

    pipeline: str
    family: str
    transformer: str
    """Class of its transformer."""
    targets: tuple[str, ...]
    """Keys that can be acted on, `site.stream`, in any of its variants."""
    refused: Mapping[str, str]
    """Keys that cannot be acted on, and why."""
    presets: tuple[str, ...]
    """Presets of its family that attach to one of its variants, blocks aside; the generic one attaches to all."""
    exercised: tuple[str, ...]
    """What passed on one of its variants at least, and failed on none; empty if it was not run."""
    variants: tuple[str, ...]
    """Names of the tiny pipelines that were run."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return asdict(self)


def recorded() -> dict[str, dict[str, Any]]:
    """What was found, by the name of the tiny pipeline."""
    return _read(DATA)


def recorded_combinations() -> list[dict[str, Any]]:
    """What passed together with other techniques, pipeline by pipeline."""
    return list(_read(COMBINATIONS).values())


def model_table(families: Iterable[Family]) -> list[PipelineFacts]:
    """Every pipeline that a family names, by family and name; those of which nothing is recorded are there too."""
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for name, entry in recorded().items():
        found.setdefault(entry["pipeline"], []).append((name, entry))
    return [
        _facts(family, pipeline, found.get(pipeline, []))
        for family in families
        for pipeline in sorted(family.pipelines) or ("any",)
    ]


def _facts(family: Family, pipeline: str, variants: list[tuple[str, dict[str, Any]]]) -> PipelineFacts:
    entries = [entry for _, entry in variants]
    passed = {claim for entry in entries for claim in entry["exercised"]}
    failed = {claim for entry in entries for claim in entry.get("failed", ())}
    return PipelineFacts(
        pipeline=pipeline,
        family=family.name,
        transformer=entries[0]["transformer"] if entries else ", ".join(family.transformers),
        targets=tuple(sorted({target for entry in entries for target in entry["targets"]})),
        refused={target: reason for entry in entries for target, reason in entry["refused"].items()},
        presets=tuple(sorted({preset for entry in entries for preset in entry.get("presets", ())})),
        exercised=tuple(sorted(passed - failed)),
        variants=tuple(name for name, _ in variants),
    )


def _read(file: str) -> dict[str, dict[str, Any]]:
    return json.loads((files("alignvid.models") / file).read_text(encoding="utf-8"))
