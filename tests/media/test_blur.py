"""A blurred reference image."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from alignvid.errors import ModulationError
from alignvid.media.blur import blurred_image


def test_blurred_image_is_a_smoother_copy():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8))
    blurred = blurred_image(image, 2.0)
    assert blurred.size == image.size
    assert np.std(np.asarray(blurred)) < 0.3 * np.std(np.asarray(image))
    assert np.array_equal(np.asarray(blurred_image(image, 0.0)), np.asarray(image))


@pytest.mark.parametrize("sigma", [-1.0, math.nan, math.inf])
def test_impossible_sigma_is_refused(sigma):
    with pytest.raises(ModulationError, match="finite number of 0 or more"):
        blurred_image(Image.new("RGB", (8, 8)), sigma)
