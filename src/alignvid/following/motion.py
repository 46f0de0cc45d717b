"""Whether a video stands still: a floor, not a judge of what moves."""

from __future__ import annotations

import numpy as np

from alignvid.media.videos import Frames

TILES = 16
"""Along the longer side; a tile's mean is blind to grain and codec noise."""
STILL_BELOW = 6.0
"""Colour levels; see docs/following.md for what still and moving clips of the miniature have."""


def motion(frames: Frames) -> float:
    """The largest change of a tile from the first frame, in colour levels 0 to 255, beyond what the whole frame does.

    0 for a single picture. A fade or a flicker of the whole frame is no motion.
    """
    if len(frames) < 2:
        return 0.0
    tiles = np.stack([_tiles(frame) for frame in frames])  # -> (frame, row, column, channel)
    change = tiles - tiles[0]
    change -= np.median(change, axis=(1, 2), keepdims=True)
    return float(np.abs(change).mean(axis=-1).max())


def _tiles(frame: np.ndarray) -> np.ndarray:
    """Mean colours of square tiles; what is left over at the right and below belongs to the last ones."""
    side = max(1, round(max(frame.shape[:2]) / TILES))
    rows, columns = (np.arange(0, max(length - side, 0) + 1, side) for length in frame.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(frame.astype(np.float32), rows, axis=0), columns, axis=1)
    heights, widths = np.diff([*rows, frame.shape[0]]), np.diff([*columns, frame.shape[1]])
    return sums / np.outer(heights, widths)[..., None]
