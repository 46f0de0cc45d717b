"""Variants that bring other inputs: prompts that were rewritten, pictures that were edited first.

The questions of a sample stay, so that both are scored by what was asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from alignvid.bench.data.dataset import ImageFile
from alignvid.bench.data.samples import Sample
from alignvid.bench.run_folder import IMAGES
from alignvid.bench.runs.variants import Variant
from alignvid.errors import InputError, UnreadableFile
from alignvid.fields import json_values, read
from alignvid.files import found_below, read_bytes, read_lines, user_path
from alignvid.media.images import decode_image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""Of pictures, in the order in which they are looked for."""
_DIGEST_LENGTH = 8  # hexadecimal digits that distinguish a sample's pictures; the job's digest has them all


class _Written(TypedDict):
    """A line of a file of prompts."""

    id: str
    prompt: str


class Given:
    """What variants bring of their own for each sample, read once."""

    def __init__(self, variants: Iterable[Variant], max_pixels: int) -> None:
        """Read the files of prompts. Raises: InputError naming what is wrong in one."""
        self._prompts = {path: read_prompts(path) for path in {v.prompts for v in variants if v.prompts is not None}}
        self._max_pixels = max_pixels
        self.pictures: dict[str, bytes] = {}
        """Those that were asked for, by their place in the run's folder."""

    def to(self, variant: Variant, sample: Sample, sha256: str | None) -> tuple[Sample, str | None]:
        """A sample as a variant has it, with the digest of its picture; `sha256` is that of the sample's own, if it has
        one.

        Raises: InputError if the variant brings none for it, or one that cannot be read.
        """
        if variant.prompts is not None:
            prompt = prompt_for(sample.id, self._prompts[variant.prompts], variant.prompts)
            sample = replace(sample, prompt=prompt)
        if variant.images is None:
            return sample, sha256
        file = image_for(sample.id, variant.images)
        digest = hashlib.sha256(file.content).hexdigest()
        place = f"{IMAGES}/{sample.id}.{digest[:_DIGEST_LENGTH]}{file.suffix}"
        if place not in self.pictures:
            decode_image(file.content, f"{variant.images}/{sample.id}{file.suffix}", max_pixels=self._max_pixels)
            self.pictures[place] = file.content
        return replace(sample, image_path=place), digest


def read_prompts(path: str) -> dict[str, str]:
    """Prompts by sample, from JSON Lines with an id and a prompt on each.

    Raises: InputError naming file and line, or an id that is there twice.
    """
    file, prompts = user_path(path), {}
    try:
        lines = list(read_lines(Path(file)))
    except UnreadableFile as error:
        raise InputError(f"The prompts {str(error).rstrip('.')}; give a JSON Lines file of id and prompt.") from error
    for number, line in lines:
        place = f"{path!r}, line {number}"
        row = read(_Written, json_values(line, error=InputError), what=place, error=InputError)
        if row["id"] in prompts:
            raise InputError(f"{place}: the id {row['id']!r} is there twice; leave one out.")
        if not row["prompt"].strip():
            raise InputError(f"{place}: the prompt of {row['id']!r} is empty; write one.")
        prompts[row["id"]] = row["prompt"]
    return prompts


def prompt_for(sample: str, prompts: Mapping[str, str], path: str) -> str:
    """The prompt of a sample. Raises: InputError if the file has none for it."""
    if sample not in prompts:
        raise InputError(f"{path!r} has no prompt for the sample {sample!r}; add a line, or choose fewer with --limit.")
    return prompts[sample]


def image_for(sample: str, folder: str) -> ImageFile:
    """The picture of a sample in a folder: ID.png, .jpg, .jpeg or .webp.

    Raises: InputError if there is none.
    """
    root = Path(user_path(folder))
    for suffix in SUFFIXES:
        file = found_below(root, f"{sample}{suffix}")
        if file.is_file():
            return ImageFile(suffix, read_bytes(file))
    raise InputError(
        f"{folder!r} has no picture for the sample {sample!r}; name it {sample}{SUFFIXES[0]}, or choose fewer with "
        "--limit."
    )
