"""Find a job's video in a run's folder, make sure that it is the one on record, and decode it."""

from __future__ import annotations

from pathlib import Path

from alignvid.bench.data.samples import Sample
from alignvid.bench.metrics.metric import Footage
from alignvid.bench.records import VideoRecord
from alignvid.errors import InputError, UnreadableFile
from alignvid.files import sha256_of_file
from alignvid.media.videos import read_video

_REMEDY = "generate it again with `alignvid bench run`"


def read_footage(folder: Path, record: VideoRecord, sample: Sample) -> Footage:
    """The video of a job that is done, and what it was made from.

    Raises: InputError if the file is missing, cut short, or not the one that was recorded.
    """
    path = folder / (record.file or "")
    try:
        sha256 = sha256_of_file(path)
    except UnreadableFile as error:
        raise InputError(f"The video {record.file!r} is not there: {error.reason}; {_REMEDY}.") from error
    if sha256 != record.sha256:
        raise InputError(f"The video {record.file!r} is not the one on record (other SHA-256); {_REMEDY}.")
    clip = read_video(path)
    image = None if sample.image_path is None else folder / sample.image_path
    return Footage(frames=clip.frames, fps=clip.fps, prompt=sample.prompt, image=image, sample=sample.id)
