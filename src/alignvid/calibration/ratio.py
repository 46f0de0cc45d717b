"""The foreground ratio r(l) of a block: how much of what its attention singles out lies on the foreground.

    coverage   of a token: the share of its patch of the reference image that is foreground, 0 to 1
    high       the tenth of the video tokens with the greatest strength (pca.py says what that is)
    r          coverage of the high tokens, as a share of the most that as many tokens could have

The last division makes r comparable between models: where tokens are as large as the objects, even a perfect map cannot
cover only foreground. Where a tenth of the tokens fits on the foreground it divides by 1.

Source: block-level guidance scheduling of arXiv 2512.01334, share of the high-attention tokens that lie on the
foreground. The tenth, the coverage and the division are ours.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64

HIGH_SHARE = 0.1
"""Share of the video tokens that count as high-attention."""


def coverage(mask: Bool[np.ndarray, "rows columns"], grid: tuple[int, int]) -> Float64[np.ndarray, "height width"]:
    """The share of each token's patch that is foreground, for a mask of the whole picture."""
    height, width = grid
    return _overlaps(mask.shape[0], height) @ mask.astype(np.float64) @ _overlaps(mask.shape[1], width).T


def high_weights(strength: Float64[np.ndarray, " token"]) -> Float64[np.ndarray, " token"]:
    """1 for the tokens that count as high, 0 for the others; equals at the limit share what is left between them."""
    count = max(1, round(HIGH_SHARE * len(strength)))
    limit = np.sort(strength)[-count]
    above, at = strength > limit, strength == limit
    return above + at * ((count - above.sum()) / at.sum())


def foreground_ratio(strength: Float64[np.ndarray, " token"], covered: Float64[np.ndarray, " token"]) -> float:
    """The ratio r of one block on one picture: 1 if its high tokens are the most covered ones.

    Raises: ValueError if no token is covered, because a ratio to nothing is not 0.
    """
    weights = high_weights(strength)
    most = np.sort(covered)[-round(weights.sum()) :].sum()
    if most == 0:
        raise ValueError("The foreground ratio needs a foreground.")
    return float((weights * covered).sum() / most)


def _overlaps(pixels: int, cells: int) -> Float64[np.ndarray, "cell pixel"]:
    """The share of each cell that each pixel takes, where the cells divide the pixels evenly."""
    edges = np.linspace(0, pixels, cells + 1)
    pixel = np.arange(pixels)
    shared = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return shared.clip(0) * cells / pixels
