import numpy as np
import pytest
import torch

from alignvid.bench.judges.frames import (
    QWEN_2_5,
    QWEN_3,
    frame_indices,
    resized,
    resized_sides,
    sampling_for,
    shown_frames,
)
from alignvid.errors import InputError
from alignvid.media.videos import Clip


def noise(count, height, width):
    return np.random.default_rng(0).integers(0, 255, (count, height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("count", "fps", "shown"),
    [
        (81, 16.0, 40),
        (181, 30.0, 48),
        (9, 8.0, 8),
        (16, 16.0, 8),
        (11, 12.0, 6),  # 7.3
        (5, 30.0, 4),
        (3, 8.0, 2),
        (3000, 24.0, 768),
    ],
)
def test_eight_frames_a_second_an_even_number_from_first_to_last(count, fps, shown):
    indices = frame_indices(count, fps, QWEN_2_5)

    assert len(indices) == shown
    assert (indices[0], indices[-1]) == (0, count - 1)
    assert indices == sorted(indices)


def test_frames_between_are_rounded_as_published():
    assert frame_indices(9, 8.0, QWEN_2_5) == torch.linspace(0, 8, 8).round().int().tolist() == [0, 1, 2, 3, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (512, 768, (308, 476)),  # evaluation of Wan clips, 3,740 tokens
        (480, 832, (280, 504)),
        (832, 480, (504, 280)),
        (360, 420, (336, 420)),  # rounded up, 364 × 420 would pass the limit
        (64, 64, (336, 336)),
        (308, 476, (308, 476)),
    ],
)
def test_sides_are_multiples_of_28_within_the_limits(height, width, expected):
    assert resized_sides(height, width, QWEN_2_5) == expected


def test_sides_for_qwen3_are_multiples_of_32():
    assert all(side % 32 == 0 for side in resized_sides(480, 832, QWEN_3))


def test_resizing_is_torchvisions_bicubic_with_antialiasing():
    """Of its first interface, which the published evaluation uses; the second rounds between the two axes."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import resize

    frames = noise(2, 96, 60)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
    expected = resize(pixels, [56, 84], interpolation=InterpolationMode.BICUBIC, antialias=True)

    assert np.array_equal(resized(frames, 56, 84), expected.permute(0, 2, 3, 1).numpy())


def test_frames_of_the_right_size_stay_as_they_are():
    frames = noise(4, 308, 476)
    assert np.array_equal(shown_frames(Clip(frames, 8.0), QWEN_2_5).frames, frames)


def test_released_times_are_two_a_second_and_true_ones_where_they_stand():
    clip = Clip(noise(16, 64, 64), 16.0)

    released, true = shown_frames(clip, QWEN_2_5), shown_frames(clip, QWEN_3)

    assert (released.fps, released.total, released.indices) == (2.0, 8, list(range(8)))
    assert (true.fps, true.total, true.indices[-1]) == (16.0, 16, 15)


@pytest.mark.parametrize("name", ["Qwen/Qwen3-VL-8B-Instruct", "qwen3_vl", "qwen3-vl-30b"])
def test_qwen3_is_known_by_name(name):
    assert sampling_for(name) is QWEN_3


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-VL-32B-Instruct", "qwen2_5_vl", "judge"])
def test_other_models_are_asked_as_published(name):
    assert sampling_for(name) is QWEN_2_5


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (Clip(noise(8, 64, 64), 0.0), "8 frames at 0 fps cannot be judged"),
        (Clip(noise(4, 2, 500), 8.0), "500×2 pixels is too narrow"),
    ],
)
def test_what_cannot_be_shown_is_said(clip, message):
    with pytest.raises(InputError, match=message):
        shown_frames(clip, QWEN_2_5)
