"""Gaussian blur of grids of tokens and latents."""

from __future__ import annotations

import math

import pytest
import torch

from alignvid.attachment.effects.gaussian import (
    blurred_pictures,
    blurred_tokens,
    gaussian_weights,
    reach,
)
from alignvid.models.family import Grid
from alignvid.models.reading.shapes import square_grid


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
