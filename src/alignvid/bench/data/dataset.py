"""A data set: samples that were read and checked, and a way to their images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from alignvid.bench.data.samples import Sample
from alignvid.errors import InputError

OMITSHAPES, OMITI2V = "omitshapes", "omiti2v"


class Unusable(NamedTuple):
    """A sample that is counted and not run."""

    sample: str
    """Its id, or "row 3" where it cannot be read."""
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
    """Whether an image follows from its sample, so that the digest of a data set can leave it out."""
    dropped: tuple[Unusable, ...] = ()
    """Rows that cannot be read, with the reason."""

    @property
    def has_images(self) -> bool:
        """Whether its samples have a reference image; all have one, or none has."""
        return any(sample.image_path is not None for sample in self.samples)

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
        if self.images_are_made or sample.image_path is None:
            return None
        try:
            return hashlib.sha256(self.image_of(sample).content).hexdigest()
        except InputError:
            return None
