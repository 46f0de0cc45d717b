import numpy as np
import pytest
import torch
from PIL import Image

from alignvid.bench.metrics.i2v_subject import image_pixels
from alignvid.bench.metrics.pixels import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    clip_pixels,
    dino_crop_pixels,
    dino_pixels,
    features,
)

SIZES = {"landscape": (270, 481), "portrait": (481, 270), "square": (300, 300), "exact": (224, 301), "small": (65, 97)}


@pytest.fixture(params=SIZES.values(), ids=SIZES)
def frames(request):
    """Noise: where a resize differs, it shows."""
    return np.random.default_rng(0).integers(0, 256, (2, *request.param, 3), dtype=np.uint8)


@pytest.fixture
def v1():
    """torchvision's transforms, which VBench composes."""
    from torchvision import transforms

    return transforms


def as_float(frames):
    return torch.Tensor(frames).permute(0, 3, 1, 2)


def composed(v1, side, crop, mode, mean, std, antialias):
    resize = v1.Resize(side, interpolation=v1.InterpolationMode(mode), antialias=antialias)
    crops = [v1.CenterCrop(crop)] if crop else []
    return v1.Compose([resize, *crops, v1.Lambda(lambda x: x.float().div(255.0)), v1.Normalize(mean, std)])


def test_clip_pixels_are_vbenchs_to_the_bit(frames, v1):
    expected = composed(v1, 224, 224, "bicubic", CLIP_MEAN, CLIP_STD, False)(as_float(frames))
    assert torch.equal(clip_pixels(frames, antialias=False, is_rounded=False), expected)


def test_clip_pixels_of_whole_numbers_are_vbenchs_to_the_bit(frames, v1):
    expected = composed(v1, 224, 224, "bicubic", CLIP_MEAN, CLIP_STD, False)(
        torch.from_numpy(frames).permute(0, 3, 1, 2)
    )
    assert torch.equal(clip_pixels(frames, antialias=False, is_rounded=True), expected)


def test_dino_pixels_are_vbenchs_to_the_bit(frames, v1):
    expected = composed(v1, 224, None, "bilinear", IMAGENET_MEAN, IMAGENET_STD, False)(as_float(frames))
    assert torch.equal(dino_pixels(frames, antialias=False), expected)


def test_pixels_for_i2v_subject_are_vbenchs_to_the_bit(frames, v1):
    expected = composed(v1, 256, 224, "bicubic", IMAGENET_MEAN, IMAGENET_STD, True)(as_float(frames))
    assert torch.equal(dino_crop_pixels(frames), expected)


def test_the_reference_image_goes_through_pillow_as_in_vbench(frames, v1):
    image = Image.fromarray(frames[0])
    resize = v1.Resize(256, interpolation=v1.InterpolationMode.BICUBIC)
    steps = [resize, v1.CenterCrop(224), v1.ToTensor(), v1.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    expected = v1.Compose(steps)(image)[None]
    torch.testing.assert_close(image_pixels(image), expected, atol=1e-6, rtol=0)  # ToTensor divides in another order


def test_antialiasing_matters(frames):
    if frames.shape[1] > 224:
        difference = clip_pixels(frames, antialias=True, is_rounded=True) - clip_pixels(
            frames, antialias=False, is_rounded=True
        )
        assert difference.abs().mean() > 0.1


def test_frames_are_encoded_a_few_at_a_time_in_order():
    frames = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1).repeat(3, axis=3)
    sizes = []

    def encode(pixels):
        sizes.append(len(pixels))
        return pixels[:, :, 0, 0]

    found = features(frames, lambda batch: torch.from_numpy(batch).permute(0, 3, 1, 2).float(), encode, "cpu")
    assert found[:, 0].tolist() == list(range(40))
    assert sizes == [16, 16, 8]


def test_pixels_are_normalised_by_the_published_means():
    from transformers.image_utils import (
        IMAGENET_DEFAULT_MEAN,
        IMAGENET_DEFAULT_STD,
        OPENAI_CLIP_MEAN,
        OPENAI_CLIP_STD,
    )

    assert [CLIP_MEAN, CLIP_STD] == [tuple(OPENAI_CLIP_MEAN), tuple(OPENAI_CLIP_STD)]
    assert [IMAGENET_MEAN, IMAGENET_STD] == [tuple(IMAGENET_DEFAULT_MEAN), tuple(IMAGENET_DEFAULT_STD)]
