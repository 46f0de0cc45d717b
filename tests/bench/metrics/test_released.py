from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alignvid.bench.metrics import Footage
from alignvid.bench.metrics.released import nearest_ratio, reencoded, released_size
from metric_models import moving_square


@pytest.mark.parametrize(
    ("size", "ratio", "released"),
    [
        ((832, 480), (16, 9), (832, 468)),
        ((768, 512), (3, 2), (768, 512)),
        ((480, 832), (1, 1), (512, 512)),  # upright becomes square
        ((640, 640), (1, 1), (640, 640)),
        ((320, 180), (16, 9), (512, 288)),
    ],
)
def test_sizes_are_those_of_the_released_evaluation(size, ratio, released):
    assert nearest_ratio(*size) == ratio
    assert released_size(size[0], ratio) == released


def test_a_video_goes_through_the_codec_and_keeps_its_length_and_rate():
    footage = Footage(frames=moving_square(6), fps=16.0, prompt="", image=Path("image.png"))

    stretched = reencoded(footage, (1, 1))

    assert stretched.frames.shape == (6, 512, 512, 3)
    assert stretched.fps == 16.0
    assert replace(stretched, frames=footage.frames, fps=16.0) == footage


def test_the_colours_stay_in_their_channels():
    frames = np.zeros((3, 64, 96, 3), np.uint8)
    frames[..., 0] = 200
    stretched = reencoded(Footage(frames=frames, fps=8.0, prompt="", image=Path("image.png")), (3, 2))
    red, green, blue = stretched.frames.reshape(-1, 3).mean(axis=0)
    assert red > 180
    assert green < 20
    assert blue < 20


def test_pyav_reads_what_opencv_reads_from_the_released_codec(tmp_path):
    import cv2

    from alignvid.media.videos import read_video

    frames = moving_square(4)
    path = tmp_path / "video.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 8, (96, 64))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    video = cv2.VideoCapture(str(path))
    seen = np.stack([cv2.cvtColor(video.read()[1], cv2.COLOR_BGR2RGB) for _ in frames])
    assert np.array_equal(read_video(path).frames, seen)
