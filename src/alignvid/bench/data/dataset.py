"""Find a data set by name: OmitShapes, OmitI2V, or a folder or a data set of the Hub in OmitI2V's schema."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from alignvid.bench.data.samples import Sample
from alignvid.errors import InputError

OMITSHAPES, OMITI2V = "omitshapes", "omiti2v"
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+(@[\w.-]+)?")


class Unusable(NamedTuple):
    """A sample that is counted and not run."""

    sample: str
    reason: str


class ImageFile(NamedTuple):
    """A sample's reference image as a file."""

    suffix: str
    """Such as ".png"."""
    content: bytes


@dataclass(frozen=True)
class DataSet:
    """Samples that were read and checked, and a way to their images."""

    name: str
    """As it was asked for, without the path to it."""
    samples: tuple[Sample, ...]
    image_of: Callable[[Sample], ImageFile]
    """Raises: InputError saying why, if there is no image that could be used."""
    revision: str | None = None
    """Commit of a data set from the Hub."""
    images_are_made: bool = False
    """Whether an image follows from its sample, so that it need not be looked at to tell two data sets apart."""

    def digest(self) -> str:
        """SHA-256 of every sample and every image; equal for two data sets that ask the same."""
        digest = hashlib.sha256()
        for sample in self.samples:
            row = {**sample.to_dict(), "image_path": None, "image": self._image_digest(sample)}
            digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
        return digest.hexdigest()

    def facts(self) -> dict[str, Any]:
        """What a run notes of it."""
        return {
            "name": self.name,
            "revision": self.revision,
            "digest": self.digest(),
            "samples": len(self.samples),
        }

    def _image_digest(self, sample: Sample) -> str | None:
        if self.images_are_made:
            return None
        try:
            return hashlib.sha256(self.image_of(sample).content).hexdigest()
        except InputError:
            return None


def open_data(name: str) -> DataSet:
    """The data set of that name.

    Raises: InputError if there is none, or if one of its rows is malformed.
    """
    if name == OMITSHAPES:
        from alignvid.bench.data.omitshapes import omitshapes

        return omitshapes()
    from alignvid.bench.data.omiti2v import REPOSITORY, from_folder, from_hub

    if name == OMITI2V:
        return from_hub(REPOSITORY)
    if Path(name).expanduser().exists():
        return from_folder(Path(name).expanduser())
    if _HUB_ID.fullmatch(name):
        return from_hub(name)
    raise InputError(
        f"Data set {name!r} is not there; give '{OMITSHAPES}', '{OMITI2V}', a folder with a meta.json, or the id of a "
        "data set on the Hugging Face Hub (owner/name, owner/name@revision)."
    )
