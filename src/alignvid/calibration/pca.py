"""The paper's view of a block's attention: principal components of its rows as colours.

Each video token has a row of attention weights, one per key. The three directions in which rows differ most become
red, green and blue. A token's strength is its distance from the mean row in that view: grey is common, colour is
singled out. It has no sign to choose and no scale to set.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, UInt8

COMPONENTS = 3


def principal_components(rows: Float[np.ndarray, "token column"]) -> Float64[np.ndarray, "token 3"]:
    """Coordinates of each row along the directions in which rows differ most; 0 where there is no such direction.

    The sign of a direction is chosen so that its farthest token is on the positive side.
    """
    centred = np.asarray(rows, np.float64) - np.mean(rows, axis=0, dtype=np.float64)
    _, directions = np.linalg.eigh(centred.T @ centred)  # ascending
    scores = centred @ directions[:, ::-1][:, :COMPONENTS]
    farthest = scores[np.abs(scores).argmax(0), range(scores.shape[1])]
    scores = scores * np.where(farthest < 0, -1.0, 1.0)
    return np.pad(scores, ((0, 0), (0, COMPONENTS - scores.shape[1])))


def strength(components: Float64[np.ndarray, "token 3"]) -> Float64[np.ndarray, " token"]:
    """How far each token is from the mean row."""
    return np.linalg.norm(components, axis=1)


def pseudo_rgb(components: Float64[np.ndarray, "token 3"]) -> UInt8[np.ndarray, "token 3"]:
    """Components as colours on one scale for all three, so that a weak component stays weak: the mean row is grey."""
    reach = np.abs(components).max()
    scaled = components / reach if reach > 0 else components
    return np.round(255 * (0.5 + 0.5 * scaled)).astype(np.uint8)
