"""Gaussian blur of images, grids of tokens and latents."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from alignvid.attachment.effects.gaussian import (
    blurred_image,
    blurred_pictures,
    blurred_tokens,
    gaussian_weights,
    reach,
)
from alignvid.errors import ModulationError
from alignvid.models.family import Grid, square_grid


def test_weights_are_a_gaussian_that_adds_up_to_one():
    weights = gaussian_weights(1.0, 1)
    side = math.exp(-0.5)
    assert weights.tolist() == pytest.approx([side / (1 + 2 * side), 1 / (1 + 2 * side), side / (1 + 2 * side)])
    assert gaussian_weights(2.0, reach(2.0)).sum().item() == pytest.approx(1.0)


def test_sigma_zero_changes_nothing():
    pictures = torch.randn(1, 2, 4, 5)
    assert torch.equal(blurred_pictures(pictures, gaussian_weights(0.0, reach(0.0))), pictures)
    assert torch.equal(blurred_pictures(pictures, gaussian_weights(0.0, 6)), pictures)


def test_a_point_becomes_the_product_of_two_gaussians():
    pictures = torch.zeros(1, 1, 9, 9)
    pictures[..., 4, 4] = 1.0
    weights = gaussian_weights(1.0, 3)
    assert torch.allclose(blurred_pictures(pictures, weights)[0, 0, 1:8, 1:8], torch.outer(weights, weights), atol=1e-7)


def test_a_flat_picture_stays_flat_up_to_its_edges():
    flat = torch.full((1, 1, 3, 4), 2.5)
    assert torch.allclose(blurred_pictures(flat, gaussian_weights(2.0, reach(2.0))), flat, atol=1e-6)


def test_tokens_are_blurred_within_their_picture_and_not_before_it():
    tokens = torch.zeros(1, 2 * (1 + 4), 1)
    tokens[0, 0] = tokens[0, 1] = 1.0  # the class token and the first patch of the first of two pictures
    blurred = blurred_tokens(tokens, Grid(1, 2, 2), gaussian_weights(1.0, 3))
    assert blurred[0, 0] == 1.0
    assert (blurred[0, 1:5] > 0).all() and blurred[0, 1:5].sum().item() == pytest.approx(1.0, abs=1e-6)
    assert (blurred[0, 5:] == 0).all()


@pytest.mark.parametrize(("tokens", "grid"), [(257, Grid(1, 16, 16)), (729, Grid(0, 27, 27)), (17, Grid(1, 4, 4))])
def test_tokens_of_a_vision_encoder_fill_a_square(tokens, grid):
    assert square_grid(tokens) == grid


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
