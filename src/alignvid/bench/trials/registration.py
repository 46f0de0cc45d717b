"""The plan of a trial, written down before the first clip, and the digests by which a changed plan shows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

from alignvid.bench.run_folder import ModelFacts, VariantFacts
from alignvid.errors import InputError, UnreadableFile
from alignvid.fields import Count, json_bytes, read
from alignvid.files import is_there, read_json, write_bytes

TRIAL_FILE = "trial.json"
SCHEMA_VERSION = 1


class SceneFacts(TypedDict):
    """A scene: its id, and a digest of its prompt, questions and picture, which are not in the record."""

    id: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What was decided before anything was run."""

    criteria: dict[str, Any]
    """What counts as helping."""
    asked: list[str]
    """Arms, as they were asked for."""
    scenes: list[SceneFacts]
    seeds: list[Count]
    host: str
    """Who makes the clips: diffusers or comfyui."""
    model: ModelFacts
    settings: dict[str, Any]
    """Numbers of the call; a size that is null follows each picture's shape."""
    variants: list[VariantFacts]
    """The arms that this model has, with their recipes."""
    left_out: dict[str, str]
    """Arms that it cannot have, with the reason."""
    primary: str
    """The arm that the verdict on the model is about."""
    schema_version: int = SCHEMA_VERSION

    @property
    def protocol_sha256(self) -> str:
        """Of what trials of any model share; records with the same one can be merged."""
        return _digest([self.criteria, self.asked, self.scenes, self.seeds])

    @property
    def plan_sha256(self) -> str:
        """Of everything."""
        return _digest(asdict(self))

    @property
    def arms(self) -> list[str]:
        """Names, in their order."""
        return [variant["name"] for variant in self.variants]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class _Written(TypedDict):
    plan: dict[str, Any]
    plan_sha256: str


def registration_of(values: Any, what: str) -> Registration:
    """Read a plan. Raises: InputError naming the field that is wrong, or another schema."""
    if isinstance(values, dict) and values.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"{what} is of another version of alignvid; read it with that one.")
    return read(Registration, values, what=what, error=InputError)


def registered(folder: Path) -> Registration | None:
    """The plan in a trial's folder; None if there is none yet.

    Raises: InputError if it cannot be read, or was changed since it was written.
    """
    file = folder / TRIAL_FILE
    if not is_there(file):
        return None
    try:
        written = read(_Written, read_json(file), what=repr(str(file)), error=InputError)
    except UnreadableFile as error:
        raise InputError(f"{str(error).rstrip('.')}; begin the trial anew in another folder.") from error
    found = registration_of(written["plan"], repr(str(file)))
    if found.plan_sha256 != written["plan_sha256"]:
        raise InputError(f"{str(file)!r} was changed after the plan was written down; begin anew in another folder.")
    return found


def register(folder: Path, plan: Registration) -> None:
    """Write the plan down, unless it is there. Raises: InputError if another one is."""
    before = registered(folder)
    if before is None:
        written = {"plan": plan.to_dict(), "plan_sha256": plan.plan_sha256}
        write_bytes(folder / TRIAL_FILE, json_bytes(written, indent=2))
    elif before.plan_sha256 != plan.plan_sha256:
        differs = [name for name, value in before.to_dict().items() if value != plan.to_dict()[name]]
        raise InputError(
            f"{str(folder)!r} holds a trial of another plan, which differs in {', '.join(differs)}; give another "
            "--out, or the line with which it was begun."
        )


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
