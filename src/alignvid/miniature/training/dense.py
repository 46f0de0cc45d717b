"""Clips with something in most cells, for the autoencoder: it learns more from them than from one edit per scene.

Crops begin on latent places, since shapes stand on the grid in use. A share of the clips is off it, in any colour, so
that a user's own flat picture is reproduced as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from alignvid.miniature.architecture import SPATIAL_FACTOR
from alignvid.miniature.drawing import (
    FRAMES,
    HEIGHT,
    RADIUS,
    WIDTH,
    Sprite,
    centre,
    draw,
    edit_progress,
    mixed,
    paint_background,
    render,
)
from alignvid.miniature.scenes import CELLS, PALETTE, SHAPE_KINDS, SIZES, TRAIN, sample_background, sample_scene

FILLED = 0.6  # of the cells
WILD = 0.05
SCENES = 0.25
CONDITIONS = 0.15  # clips that are grey after their first frame: the pipeline encodes its reference image so
COLOURS = [np.array(colour, np.float32) for colour in PALETTE.values()]

Motion = Callable[[float], Sprite]


class Window(NamedTuple):
    """What a batch is made of: so many crops, of so many frames and pixels."""

    clips: int
    frames: int
    pixels: int


def batch_of(window: Window, rng: np.random.Generator) -> Float[Tensor, "batch 3 frames height width"]:
    """Crops of clips of all kinds, in -1..1."""
    return torch.stack([_crop(_clip(rng), window, rng) for _ in range(window.clips)])


def _crop(clip: np.ndarray, window: Window, rng: np.random.Generator) -> Float[Tensor, "3 frames height width"]:
    pixels = window.pixels
    top, left = (SPATIAL_FACTOR * rng.integers(0, (size - pixels) // SPATIAL_FACTOR + 1) for size in (HEIGHT, WIDTH))
    first = 0 if window.frames == FRAMES else int(rng.integers(FRAMES - window.frames + 1))
    part = np.ascontiguousarray(clip[first : first + window.frames, top : top + pixels, left : left + pixels])
    tensor = torch.from_numpy(part).permute(3, 0, 1, 2).float() / 127.5 - 1
    if rng.random() < CONDITIONS:
        tensor[:, 1:] = 0
    return tensor


def _clip(rng: np.random.Generator) -> np.ndarray:
    kind = rng.random()
    if kind < SCENES:
        return render(sample_scene(int(rng.integers(TRAIN.start, TRAIN.stop))), shown=rng.random() < 0.85)
    motions = _wild_motions(rng) if kind < SCENES + WILD else _motions(rng)
    background = sample_background(rng)
    if kind < SCENES + WILD and rng.random() < 0.7:
        red, green, blue = (int(level) for level in rng.integers(40, 216, 3))
        background = replace(background, colour=(red, green, blue), accent=(red, green, blue))
    ground = paint_background(background)
    frames = [draw(ground, [motion(edit_progress(frame)) for motion in motions]) for frame in range(FRAMES)]
    return np.stack(frames).round().astype(np.uint8)


def _motions(rng: np.random.Generator) -> list[Motion]:
    """In most cells a shape that stands still or does one of the edits; sometimes one that slides to another cell."""
    free = [cell for cell in CELLS if rng.random() < FILLED]
    motions = [_in_place(rng, cell) for cell in free]
    if rng.random() < 0.5:
        begin, end = rng.choice(len(CELLS), 2, replace=False)
        before = _sprite(rng, *centre(int(begin)))
        x, y = centre(int(end))
        motions.append(_between(before, before._replace(x=x, y=y)))
    return motions


def _in_place(rng: np.random.Generator, cell: int) -> Motion:
    shape, kind = _sprite(rng, *centre(cell)), rng.random()
    if kind < 0.45:
        return lambda _: shape
    if kind < 0.6:
        return lambda progress: shape._replace(radius=shape.radius * progress)
    if kind < 0.75:
        return lambda progress: shape._replace(opacity=1 - progress)
    if kind < 0.87:
        return _between(shape, shape._replace(colour=COLOURS[rng.integers(len(COLOURS))]))
    return _between(shape, shape._replace(radius=RADIUS["small"] + RADIUS["large"] - shape.radius))


def _wild_motions(rng: np.random.Generator) -> list[Motion]:
    """Shapes of any colour and size anywhere, that stand still or slide."""
    motions = []
    for _ in range(rng.integers(1, 7)):
        x, y, right, down = rng.uniform(4, WIDTH - 4, 4)
        colour = rng.uniform(0, 255, 3).astype(np.float32)
        shape = _sprite(rng, x, y)._replace(colour=colour, radius=float(rng.uniform(5, 14)))
        motions.append(_between(shape, shape._replace(x=right, y=down) if rng.random() < 0.3 else shape))
    return motions


def _sprite(rng: np.random.Generator, x: float, y: float) -> Sprite:
    kind, size = SHAPE_KINDS[rng.integers(len(SHAPE_KINDS))], SIZES[rng.integers(len(SIZES))]
    return Sprite(kind, COLOURS[rng.integers(len(COLOURS))], x, y, RADIUS[size], 1.0)


def _between(before: Sprite, after: Sprite) -> Motion:
    return lambda progress: mixed(before, after, progress)
