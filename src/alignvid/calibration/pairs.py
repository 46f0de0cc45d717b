"""Image-prompt pairs to calibrate on: a JSON Lines file, a folder in OmitI2V's layout, or scenes of the miniature."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from alignvid.errors import InputError, UnreadableFile
from alignvid.files import found_below, is_there, read_json, user_path, writable_folder, write_bytes
from alignvid.generate import GenerationSpec, Job, read_jobs
from alignvid.generate.jobs import job_of
from alignvid.media.images import png_bytes, read_image
from alignvid.miniature.drawing import first_frame
from alignvid.miniature.prompts import evaluation_prompt
from alignvid.miniature.scenes import CALIBRATION, Scene, evaluation_scenes

RECOMMENDED = 50
"""Pairs, as in the paper."""
LEAST = 2
"""Pairs; an interval needs two."""

_SCENES = re.compile(r"scenes(:(?P<first>[0-9]{1,9})-(?P<stop>[0-9]{1,9}))?")
_META = "meta.json"
_META_FIELDS = ("id", "prompt", "image-path")


@dataclass(frozen=True)
class Pair:
    """A reference image and a prompt."""

    id: str
    """Unique in its data."""
    spec: GenerationSpec
    """What the model is asked for."""
    image_sha256: str
    """Of the image's pixels."""
    size: tuple[int, int]
    """Width and height of the image as it is in its file."""
    scene: Scene | None
    """What the image shows, where it is one of the miniature's."""

    @property
    def asks_for(self) -> list[Any]:
        """All that decides what the model makes of it, as plain data."""
        return [self.id, self.spec.prompt, self.spec.negative_prompt, self.spec.seed, self.image_sha256]


def read_pairs(data: str, fields: Mapping[str, Any], *, count: int | None, pictures: Path) -> list[Pair]:
    """The first `count` pairs of some data; all of them if None.

    Args:
        data: A JSON Lines file of jobs, a folder with OmitI2V's meta.json, "scenes", or "scenes:50-100" for those of
            these numbers.
        fields: Fields of the spec that all pairs share.
        count: Of pairs.
        pictures: Folder that scenes are drawn into; made if need be.

    Raises: InputError naming row and field if one cannot be used, or if there are too few.
    """
    if match := _SCENES.fullmatch(data):
        first, stop = int(match["first"] or 0), int(match["stop"] or (count or RECOMMENDED))
        pairs = _scene_pairs(first, stop if count is None else min(stop, first + count), fields, pictures)
    else:
        pairs = [_pair(job) for job in _jobs(user_path(data), dict(fields))[:count]]
    if len(pairs) < LEAST:
        raise InputError(
            f"{data!r} gives {len(pairs)} pairs; a calibration needs at least {LEAST}, {RECOMMENDED} are recommended."
        )
    return pairs


def _jobs(path: Path, fields: dict[str, Any]) -> list[Job]:
    if path.is_dir():
        return _omit_jobs(path, fields)
    if not is_there(path):
        raise InputError(
            f"The data {str(path)!r} is not there; give a JSON Lines file, a folder with a {_META}, or 'scenes'."
        )
    return read_jobs(path, fields)


def _pair(job: Job) -> Pair:
    if job.spec.image is None:
        raise InputError(f"The pair {job.id!r} lacks the field 'image'; the foreground is a part of it, so give one.")
    try:
        image = read_image(job.spec.image, max_pixels=job.spec.max_pixels)
    except InputError as error:
        raise InputError(f"The pair {job.id!r}, field 'image': {error}") from error
    return Pair(job.id, job.spec, image.pixels_sha256, image.pixels.size, None)


def _omit_jobs(folder: Path, fields: dict[str, Any]) -> list[Job]:
    file = folder / _META
    try:
        samples = read_json(file)
    except UnreadableFile as error:
        raise InputError(f"{str(error).rstrip('.')}; give OmitI2V's folder.") from error
    if not isinstance(samples, list):
        raise InputError(f"{str(file)!r} holds {type(samples).__name__} instead of a list of samples.")
    jobs = [_omit_job(f"{str(file)!r}, sample {row}", folder, sample, fields) for row, sample in enumerate(samples, 1)]
    seen: set[str] = set()
    for job in jobs:
        if job.id in seen:
            raise InputError(f"{str(file)!r}: the id {job.id!r} is there twice; give each sample its own id.")
        seen.add(job.id)
    return jobs


def _omit_job(place: str, folder: Path, sample: Any, fields: dict[str, Any]) -> Job:
    if not isinstance(sample, dict):
        raise InputError(f"{place}: {type(sample).__name__} instead of an object with {', '.join(_META_FIELDS)}.")
    for name in _META_FIELDS:
        if not isinstance(sample.get(name), str):
            raise InputError(f"{place}: the field {name!r} is {sample.get(name)!r}; it must be text.")
    image = sample["image-path"]
    if not _is_inside(folder, image):
        raise InputError(
            f"{place}: the field 'image-path' is {image!r}, which leads out of the folder; keep it inside."
        )
    return job_of(place, folder, {"id": sample["id"], "prompt": sample["prompt"], "image": image}, fields)


def _is_inside(folder: Path, name: str) -> bool:
    try:
        return found_below(folder, name).resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # no path can be so: reading it says why
        return True


def _scene_pairs(first: int, stop: int, fields: Mapping[str, Any], pictures: Path) -> list[Pair]:
    seeds = CALIBRATION[first:stop]
    scenes = evaluation_scenes(seeds, len(seeds)) if len(seeds) else []
    if scenes:
        writable_folder(pictures)
    return [
        _scene_pair(f"scene-{first + index}", scene, evaluation_prompt(scene, seeds[index]), fields, pictures)
        for index, scene in enumerate(scenes)
    ]


def _scene_pair(id: str, scene: Scene, prompt: str, fields: Mapping[str, Any], pictures: Path) -> Pair:
    image, path = Image.fromarray(first_frame(scene)), pictures / f"{id}.png"
    write_bytes(path, png_bytes(image))
    spec = GenerationSpec(**fields, prompt=prompt, image=str(path))
    return Pair(id, spec, read_image(path).pixels_sha256, image.size, scene)
