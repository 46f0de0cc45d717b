"""The record beside every video: what ran, on what, and all that is needed to run it again."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, TypedDict

from alignvid.errors import InputError, UnreadableFile
from alignvid.fields import OPEN, Count, Duration, InnerPath, Positive, json_bytes, read
from alignvid.files import read_json, sha256_of_file

SCHEMA_VERSION = 1
RECORD_FILE = "record.json"
_PACKAGES = ("alignvid", "torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "pillow", "av")


class SpecFacts(TypedDict):
    """What was asked for; `GenerationSpec.from_dict` reads all of it."""

    prompt: str
    seed: Count


class SettingsFacts(TypedDict):
    """The numbers that the spec left open, decided."""

    width: Positive
    height: Positive
    frames: Positive | None
    steps: Positive
    guidance: float | None
    fps: Duration


class ModelFacts(TypedDict):
    """A model."""

    name: str
    pipeline: str
    location: str | None
    revision: str | None


class AttachmentFacts(TypedDict):
    """What acted, and how often; an attachment may say more."""

    name: str
    gains: dict[str, float]
    sites: Count
    acted: Count
    forwards: Count
    active_forwards: Count


class ImageFacts(TypedDict):
    """The reference image, and its copy as the model got it."""

    sha256: str
    size: list[Positive]
    file: InnerPath
    pixels_sha256: str


class OutputFacts(TypedDict):
    """A video."""

    file: InnerPath
    sha256: str
    frames_sha256: str
    frames: Positive
    width: Positive
    height: Positive


class MachineFacts(TypedDict):
    """Where it ran; a machine may say more."""

    dtype: str


class TraceFacts(TypedDict):
    """What attention did in the making of a video."""

    file: InnerPath
    sha256: str
    models: dict[str, Any]
    words: list[str]


@dataclass(frozen=True, kw_only=True)
class Record:
    """All facts about one generation. `to_dict` is what is written."""

    spec: Annotated[SpecFacts, OPEN]
    """What was asked for."""
    settings: SettingsFacts
    """The numbers that the spec left open, decided."""
    model: ModelFacts
    """Name, location, pipeline class and revision."""
    recipe: dict[str, Any]
    """The recipe that acted, whatever the preset of that name says today."""
    attachment: Annotated[AttachmentFacts, OPEN]
    """Preset, blocks, gains, and how often it acted."""
    image: ImageFacts | None
    """Digests of the reference image, and its copy as the model got it."""
    outputs: dict[str, OutputFacts]
    """Every video by its role: file, digest, size, length."""
    machine: Annotated[MachineFacts, OPEN]
    """Device, number format, offload, processor."""
    timings: dict[str, float]
    """Seconds by part."""
    notes: list[str]
    """What the user was warned of."""
    versions: dict[str, str]
    """Of Python and of the packages that decide the result."""
    created: str
    """UTC, ISO 8601."""
    schema_version: int = SCHEMA_VERSION
    """Of this format."""
    traces: dict[str, TraceFacts] = field(default_factory=dict)
    """What attention did, by the role of the video; empty if the run was not observed."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {field.name: getattr(self, field.name) for field in sorted(fields(self), key=_schema_first)}

    def to_json(self) -> bytes:
        """The record's file."""
        return json_bytes(self.to_dict(), indent=2)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Record:
        """Read a dict written by `to_dict`.

        Raises: InputError for another schema version, or naming the field that is unknown, missing or wrong.
        """
        if values.get("schema_version") != SCHEMA_VERSION:
            raise InputError(
                f"The record has schema version {values.get('schema_version')!r}, this one reads {SCHEMA_VERSION}; "
                "repeat it with the version of alignvid that it names."
            )
        return read(cls, values, what="The record", error=InputError)


def read_record(path: Path) -> Record:
    """The record in a file, or in a folder's record.json.

    Raises: InputError if it is missing or no record.
    """
    file = path / RECORD_FILE if path.is_dir() else path
    try:
        values = read_json(file, mends_text=True)
    except UnreadableFile as error:
        raise InputError(f"{str(file)!r} cannot be read as a record: {error.reason}; give a {RECORD_FILE}.") from error
    if not isinstance(values, dict):
        raise InputError(f"{str(file)!r} holds no record; give a {RECORD_FILE} that `alignvid generate` wrote.")
    try:
        return Record.from_dict(values)
    except InputError as error:
        raise InputError(f"{str(file)!r} cannot be read as a record: {error}") from error


def is_finished(folder: Path, spec: Mapping[str, Any], image_sha256: str | None, roles: set[str]) -> bool:
    """Whether the folder holds what this spec asks for, whole: same spec, same image, videos with their digests."""
    try:
        record = read_record(folder)
    except InputError:
        return False
    same_image = (record.image or {}).get("sha256") == image_sha256
    return (
        record.spec == dict(spec) and same_image and roles <= set(record.outputs) and outputs_are_whole(folder, record)
    )


def outputs_are_whole(folder: Path, record: Record) -> bool:
    """Whether every video that the record names is there with its digest."""
    try:
        return all(sha256_of_file(folder / output["file"]) == output["sha256"] for output in record.outputs.values())
    except UnreadableFile:
        return False


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result; packages that are missing are left out."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine_facts() -> dict[str, Any]:
    """What the machine is; the sums of floating-point numbers depend on it."""
    import torch

    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def now() -> str:
    """This moment in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _schema_first(field: Any) -> bool:
    return field.name != "schema_version"
