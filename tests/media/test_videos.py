import time
from fractions import Fraction

import av
import numpy as np
import pytest

from alignvid.errors import InputError, OutputError
from alignvid.media.videos import encode_video, read_video, side_by_side, write_video


def moving_square(length: int = 9, height: int = 64, width: int = 64) -> np.ndarray:
    frames = np.full((length, height, width, 3), (30, 90, 160), np.uint8)
    for index in range(length):
        frames[index, 8:24, 2 * index : 2 * index + 16] = (220, 40, 40)
    return frames


def probe(path) -> av.VideoStream:
    with av.open(str(path)) as container:
        return container.streams.video[0]


def test_frames_survive_writing_and_reading(tmp_path):
    write_video(tmp_path / "a.mp4", moving_square(), fps=8)
    clip = read_video(tmp_path / "a.mp4")
    assert clip.frames.shape == (9, 64, 64, 3)
    # H.264 halves the colour resolution: edges differ, areas stay within a few grey levels.
    assert np.abs(clip.frames.astype(int) - moving_square()).mean() < 2


@pytest.mark.parametrize("color", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 100, 50)])
def test_flat_colours_stay_within_two_levels(tmp_path, color):
    write_video(tmp_path / "a.mp4", np.full((3, 32, 32, 3), color, np.uint8), fps=8)
    assert np.abs(read_video(tmp_path / "a.mp4").frames.astype(int) - color).max() <= 2


def test_the_file_is_h264_yuv420p_with_the_index_in_front(tmp_path):
    write_video(tmp_path / "a.mp4", moving_square(), fps=8)
    stream, data = probe(tmp_path / "a.mp4"), (tmp_path / "a.mp4").read_bytes()
    assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(
    ("fps", "expected"), [(8, 8), (16, 16), (30, 30), (29.97, Fraction(2997, 100)), (0.5, Fraction(1, 2))]
)
def test_the_frame_rate_is_what_was_asked_for(tmp_path, fps, expected):
    write_video(tmp_path / "a.mp4", moving_square(), fps)
    assert probe(tmp_path / "a.mp4").average_rate == expected


def test_an_odd_side_gets_its_last_line_twice(tmp_path):
    write_video(tmp_path / "a.mp4", moving_square(3, 33, 35), fps=8)
    assert read_video(tmp_path / "a.mp4").frames.shape == (3, 34, 36, 3)


def test_a_single_frame_is_a_video(tmp_path):
    write_video(tmp_path / "a.mp4", moving_square(1), fps=8)
    assert len(read_video(tmp_path / "a.mp4").frames) == 1


def test_the_same_frames_give_the_same_bytes_at_any_time():
    first = encode_video(moving_square(), 8)
    time.sleep(1.1)  # MP4 has room for a time of day in seconds
    assert encode_video(moving_square(), 8) == first


@pytest.mark.parametrize("fps", [0, -1, float("nan"), 241])
def test_an_impossible_frame_rate_is_refused(fps):
    with pytest.raises(OutputError, match=r"fps .* is out of range"):
        encode_video(moving_square(), fps)


@pytest.mark.parametrize(
    "frames",
    [np.zeros((0, 8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), np.zeros((2, 8, 8, 3), np.float32)],
    ids=["no frame", "an image", "floats"],
)
def test_frames_that_are_no_video_are_refused(frames):
    with pytest.raises(OutputError, match="are no video; give uint8"):
        encode_video(frames, 8)


def test_a_video_cut_in_the_middle_is_refused(tmp_path):
    (tmp_path / "a.mp4").write_bytes(encode_video(moving_square(), 8)[:500])
    with pytest.raises(InputError, match="cannot be read"):
        read_video(tmp_path / "a.mp4")


def test_a_missing_video_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"a\.mp4' cannot be read"):
        read_video(tmp_path / "a.mp4")


def test_side_by_side_puts_clips_from_left_to_right_with_a_white_gap():
    red, blue = np.zeros((2, 4, 6, 3), np.uint8), np.zeros((2, 4, 6, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    joined = side_by_side(red, blue)
    assert joined.shape == (2, 4, 20, 3)
    assert (joined[:, :, :6] == red).all()
    assert (joined[:, :, 6:14] == 255).all()
    assert (joined[:, :, 14:] == blue).all()
