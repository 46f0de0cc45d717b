"""Principal components of attention rows, and their colours."""

import numpy as np
import pytest

from alignvid.calibration.pca import principal_components, pseudo_rgb, strength


def test_components_are_those_of_the_singular_value_decomposition():
    rows = np.random.default_rng(0).random((30, 7))
    left, values, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    found = principal_components(rows)
    np.testing.assert_allclose(np.abs(found), np.abs(left[:, :3] * values[:3]), atol=1e-12)


def test_a_single_odd_row_is_the_strongest_and_its_component_positive():
    rows = np.full((10, 4), 0.25)
    rows[6] = [1, 0, 0, 0]
    components = principal_components(rows)
    strengths = strength(components)
    assert strengths.argmax() == 6
    assert components[6, 0] > 0
    odd = rows[6] - rows.mean(0)  # all of the variance lies along it
    assert strengths[6] == pytest.approx(np.linalg.norm(odd))


def test_equal_rows_have_no_component_and_are_grey():
    components = principal_components(np.full((6, 5), 0.2))
    assert np.abs(components).max() < 1e-12
    assert np.unique(pseudo_rgb(np.zeros((6, 3)))).tolist() == [128]


def test_two_keys_leave_the_third_colour_grey():
    components = principal_components(np.array([[0.1, 0.9], [0.2, 0.8], [0.6, 0.4]]))
    assert components.shape == (3, 3)
    assert pseudo_rgb(components)[:, 2].tolist() == [128] * 3


def test_colours_have_one_scale():
    colours = pseudo_rgb(np.array([[4.0, 1.0, 0.0], [-4.0, -1.0, 0.0]]))
    assert colours.tolist() == [[255, 159, 128], [0, 96, 128]]
