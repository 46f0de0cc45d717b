"""Re-encode a video as the released evaluation does before it measures: stretched to one shape, written with mp4v.

It takes the shape of the first video of all, rounds it to the nearest of a few ratios, none of them upright, and
stretches every video to it (evaluate_i2v.py:384-456, 491-499). Scores after that cannot be compared with scores of the
videos themselves.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from alignvid.bench.metrics.metric import Footage
from alignvid.errors import InputError, MissingExtra
from alignvid.media.videos import read_video

RATIOS = ((1, 1), (3, 2), (16, 9))
"""Width to height. Those that are known from what the released evaluation does to 768x512, 832x480 and upright videos;
its list may hold more of them."""

_MIN_WIDTH = 512

Ratio = tuple[int, int]


def nearest_ratio(width: int, height: int) -> Ratio:
    """The ratio that all videos get if the first has this size."""
    return min(RATIOS, key=lambda ratio: abs(ratio[0] / ratio[1] - width / height))


def released_size(width: int, ratio: Ratio) -> tuple[int, int]:
    """Width and height of a re-encoded video; at least 512 wide, its height rounded down.

    OpenCV's writer then leaves out an odd last row, here as in the released evaluation.
    """
    new_width = max(width, _MIN_WIDTH)
    return new_width, int(new_width * ratio[1] / ratio[0])


def reencoded(footage: Footage, ratio: Ratio) -> Footage:
    """The footage, stretched and through MPEG-4.

    Raises: MissingExtra without OpenCV; InputError if its codec is missing.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra('The protocol "released" needs OpenCV: pip install "alignvid[metrics]"') from error
    size = released_size(footage.frames.shape[2], ratio)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), footage.fps, size)
        if not writer.isOpened():
            raise InputError(
                f"OpenCV cannot write MPEG-4 at {size[0]}x{size[1]}; choose the protocol vbench or native."
            )
        for frame in footage.frames:
            writer.write(cv2.cvtColor(cv2.resize(frame, size), cv2.COLOR_RGB2BGR))
        writer.release()
        clip = read_video(path)
    return replace(footage, frames=clip.frames, fps=clip.fps)
