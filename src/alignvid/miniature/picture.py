"""What a flat picture shows, read without knowing its scene: the muted ground, and a coloured shape in some cells."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alignvid.errors import InputError
from alignvid.miniature.drawing import HEIGHT, WIDTH, Image, Video, paint_background
from alignvid.miniature.judge import BLUR, blur, cell_window, look
from alignvid.miniature.scenes import CELLS, Background, Shape, place_name

VIVID_ABOVE = 60.0
"""Largest minus smallest of red, green and blue: shapes are above it, grounds below."""
RIM = 5  # pixels; a vivid pixel's neighbourhood belongs to its shape: antialiasing, blur, chroma of half resolution
FEWEST_PIXELS = 20
"""A cell with fewer vivid pixels holds no shape."""
LARGEST_SHARE = 0.6
SPREAD = (0.5, 99.5)  # percent; the ground's colours along their main direction
MARGIN = 4.0  # levels beyond that
WIDEST_GROUND = 110.0
"""From the ground's darkest colour to its lightest; of 120 made scenes at most 54, as JPEG 72, of a grey photo 448."""
FARTHEST_OFF = 20.0
"""Spread of the ground's colours about their line, in levels."""
DARKEST_GROUND, BRIGHTEST_GROUND = 40.0, 220.0
"""Grounds of made scenes have 66 to 200."""


class Ground(NamedTuple):
    """What is behind the shapes: a picture of it, and the line of colours, from `start` on, that its texture takes."""

    image: Image
    start: NDArray[np.float32]
    direction: NDArray[np.float32]
    """Of length 1."""
    lowest: float
    highest: float

    def distance(self, blurred: Image) -> NDArray[np.float32]:
        """How far each pixel of a blurred picture is from bare ground, (height, width), in colour levels.

        From the same pixel, or from the nearest of the ground's colours: codecs and autoencoders blur textures.
        """
        along = np.clip((blurred - self.start) @ self.direction, self.lowest, self.highest)
        nearest = self.start + along[..., None] * self.direction
        here = np.linalg.norm(blurred - blur(self.image, BLUR), axis=-1)
        return np.minimum(np.linalg.norm(blurred - nearest, axis=-1), here).astype(np.float32)


class Picture(NamedTuple):
    """The shapes of a picture and what is behind them."""

    shapes: tuple[Shape, ...]
    ground: Ground


def known_ground(background: Background) -> Ground:
    """The ground of a made scene."""
    start, end = np.array(background.colour, np.float32), np.array(background.accent, np.float32)
    length = float(np.linalg.norm(end - start))
    direction = (end - start) / max(length, 1.0)
    return Ground(paint_background(background), start, direction, -MARGIN, length + MARGIN)


def read_picture(frame: Video) -> Picture:
    """Read a uint8 picture, (height, width, 3), of the size that the miniature makes.

    Raises: InputError if it has another size, no muted ground, or something in a cell that is no shape of this world.
    """
    if frame.shape != (HEIGHT, WIDTH, 3):
        raise InputError(f"The picture has shape {frame.shape}; the miniature's have {(HEIGHT, WIDTH, 3)}. Resize it.")
    image = frame.astype(np.float32)
    is_vivid = np.ptp(image, axis=-1) > VIVID_ABOVE
    covered = blur(is_vivid[..., None].astype(np.float32), RIM)[..., 0] > 0
    if covered.mean() > LARGEST_SHARE:
        raise InputError(
            f"{covered.mean():.0%} of the picture are vivid colours, at most {LARGEST_SHARE:.0%} can be read; "
            "take one of coloured shapes on a muted ground."
        )
    ground = _read_ground(image, covered)
    blurred = blur(image, BLUR)
    shapes = [_shape_in(blurred, ground.image, cell) for cell in CELLS if _count(is_vivid, cell) >= FEWEST_PIXELS]
    return Picture(tuple(shapes), ground)


def _count(is_vivid: NDArray[np.bool_], cell: int) -> int:
    return int(is_vivid[cell_window(cell)].sum())


def _shape_in(blurred: Image, ground: Image, cell: int) -> Shape:
    sight = look(blurred, ground, cell, may_grow=False)
    if not sight.fits:
        raise InputError(f"The {place_name(cell)} of the picture holds something too pale to be a shape.")
    (kind, size), fit = min(sight.fits.items(), key=lambda item: item[1].error)
    if fit.colour == "unclear":
        raise InputError(
            f"The shape at the {place_name(cell)} of the picture has no colour of the miniature's palette."
        )
    return Shape(kind, fit.colour, cell, size)


def _read_ground(image: Image, covered: NDArray[np.bool_]) -> Ground:
    seen = image[~covered]
    mean = seen.mean(0)
    direction = np.linalg.svd(np.cov((seen - mean).T) + 1e-3 * np.eye(3))[0][:, 0].astype(np.float32)
    lowest, highest = np.percentile((seen - mean) @ direction, SPREAD)
    return Ground(_filled(image, covered), mean, direction, float(lowest) - MARGIN, float(highest) + MARGIN)


def _filled(image: Image, covered: NDArray[np.bool_]) -> Image:
    """The picture with its covered pixels taken from around them, near ones first."""
    known, filled = (~covered)[..., None].astype(np.float32), image * (~covered)[..., None]
    while not known.all():
        weight = blur(known, RIM)
        mean = blur(filled, RIM) / np.maximum(weight, 1e-6)
        is_new = (known == 0) & (weight > 0)
        filled, known = np.where(is_new, mean, filled), np.where(is_new, np.float32(1), known)
    return filled


def unlike_the_world(frame: Video) -> str | None:
    """Why a uint8 picture of the miniature's size is none of its world, as the end of a sentence; None if it is one."""
    try:
        picture = read_picture(frame)
    except InputError as error:
        return str(error).split(";")[0].rstrip(".").removeprefix("The picture ")
    seen = picture.ground
    brightness = float(seen.start.mean())
    if seen.highest - seen.lowest > WIDEST_GROUND or _spread_off_the_line(frame, seen) > FARTHEST_OFF:
        return "what lies between coloured shapes is no plain ground"
    if not DARKEST_GROUND < brightness < BRIGHTEST_GROUND:
        return f"its ground is nearly {'black' if brightness < DARKEST_GROUND else 'white'}"
    return None if picture.shapes else "it shows no coloured shape"


def _spread_off_the_line(frame: Video, ground: Ground) -> float:
    """How far the ground's pixels are from the line of colours that its texture takes, root mean square."""
    image = frame.astype(np.float32)
    bare = image[np.ptp(image, axis=-1) <= VIVID_ABOVE] - ground.start
    return float(np.sqrt(((bare - np.outer(bare @ ground.direction, ground.direction)) ** 2).sum(1).mean()))
