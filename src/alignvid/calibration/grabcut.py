"""The foreground by GrabCut, a classical method: what differs from a picture's rim."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image

from alignvid.errors import MissingExtra

MARGIN = 0.05
"""Share of a side that is left out all around, where an algorithm needs to know roughly where the foreground is."""

_ROUNDS = 5


def grabcut(image: Image.Image) -> Bool[np.ndarray, "height width"]:
    """What differs from the rim of a picture, by GrabCut; the same on every call."""
    cv2 = require_cv2()
    pixels = np.ascontiguousarray(np.asarray(image)[:, :, ::-1])
    height, width = pixels.shape[:2]
    left, top = max(1, round(MARGIN * width)), max(1, round(MARGIN * height))
    labels, background, foreground = np.zeros((height, width), np.uint8), np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    box = (left, top, width - 2 * left, height - 2 * top)
    cv2.grabCut(pixels, labels, box, background, foreground, _ROUNDS, cv2.GC_INIT_WITH_RECT)
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)


def require_cv2() -> Any:
    """OpenCV. Raises: MissingExtra."""
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra('GrabCut needs OpenCV; type: pip install "alignvid[calibrate]"') from error
    return cv2
