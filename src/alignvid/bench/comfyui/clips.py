"""From what a graph saved to frames: one picture each, an animated one, or a video."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

from alignvid.errors import InputError
from alignvid.media.videos import Frames, read_video

_VIDEOS = (".mp4", ".webm", ".mov", ".mkv")
Fetch = Callable[[Mapping[str, Any]], bytes]


def clip_of(outputs: Mapping[str, Any], fetch: Fetch) -> Frames:
    """The clip among a run's outputs: a video that was saved, else the longest list of pictures.

    Raises: InputError if nothing was saved, or it cannot be read.
    """
    saved = [files for output in outputs.values() for files in _lists(output)]
    videos = [file for files in saved for file in files if Path(file["filename"]).suffix.lower() in _VIDEOS]
    if videos:
        return _video(fetch(videos[0]), Path(videos[0]["filename"]).suffix)
    if not saved:
        raise InputError(
            "The workflow saved nothing; end it in a Save node (Save Video, Save Image, Save Animated WEBP)."
        )
    frames = [frame for file in max(saved, key=len) for frame in _pictures(fetch(file), file["filename"])]
    if len({frame.shape for frame in frames}) > 1:
        raise InputError("The workflow saved pictures of several sizes; leave one Save node in it.")
    return np.stack(frames)


def _lists(output: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """The lists of files in a node's output; previews are none."""
    found = []
    for value in output.values():
        files = (
            [item for item in value if isinstance(item, dict) and item.get("filename")]
            if isinstance(value, list)
            else []
        )
        if kept := [file for file in files if file.get("type") == "output"]:
            found.append(kept)
    return found


def _pictures(content: bytes, name: str) -> list[np.ndarray]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return [np.asarray(frame.convert("RGB"), np.uint8) for frame in ImageSequence.Iterator(image)]
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"What the workflow saved as {name!r} cannot be read: {error}.") from error


def _video(content: bytes, suffix: str) -> Frames:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"clip{suffix}"
        file.write_bytes(content)
        return read_video(file).frames
