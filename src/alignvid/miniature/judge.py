"""A rule judge: did the edit happen, and did the rest stay? Decided from pixels, knowing the scene.

Each cell of the last frames is read by synthesis: every shape, size and small shift is laid on the known background
with the colour that fits best, and the nearest picture wins. What lies off the edit's path must look like the first
frame throughout.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alignvid.miniature.drawing import (
    EDIT_COMPLETE_AT,
    HEIGHT,
    RADIUS,
    WIDTH,
    Image,
    Video,
    centre,
    coverage,
    first_frame,
    paint_background,
    render,
)
from alignvid.miniature.scenes import CELLS, PALETTE, SHAPE_KINDS, SIZES, Scene, Shape, ShapeKind, Size, place_name

# Distances are in colour levels, 0..255, set on rendered and generated clips of development scenes (docs/miniature.md).
EMPTY_BELOW = 9.0
"""Root mean square difference from the background under which a cell is empty."""
COLOUR_WITHIN = 75.0
"""A fitted colour further than this from all of the palette is no colour of a shape."""
CHANGE_ABOVE = 58.0
"""A 5×5 patch off the edit's path that differs from the first frame by more, on average, has changed."""
TOLERANCE = 1.3
LEEWAY = 2.0
"""The promised shape may fit this factor and this much worse than the best does: the autoencoder blurs corners."""
BLUR = 3  # pixels; evens out the chroma of H.264, which has half the resolution
PATH_MARGIN = 9  # pixels, two codec blocks of chroma around the edit
SHIFTS = (-2, -1, 0, 1, 2)
GROWTHS: dict[Size, tuple[float, ...]] = {"small": (-2.0, -1.0, 0.0, 1.0), "large": (-1.0, 0.0, 1.0)}
"""Pixels by which a shape's radius may differ from its size's: small and large ones are 3.5 apart."""
CELL_WINDOW = 24  # pixels, as wide as a cell


class Fit(NamedTuple):
    """The best explanation of a cell by one kind and size of shape."""

    colour: str
    """A name of the palette, or "unclear"."""
    error: float


class Sight(NamedTuple):
    """What a cell looks like."""

    difference: float
    """From the bare background."""
    fits: dict[tuple[ShapeKind, Size], Fit]
    """Of each kind and size; none where the cell is empty."""

    def is_explained_by(self, shape: Shape | None) -> bool:
        """Whether this shape (None: the background) explains the cell, about as well as the best explanation does."""
        is_empty = self.difference < EMPTY_BELOW
        if shape is None or is_empty:
            return is_empty and shape is None
        fit, best = self.fits[shape.kind, shape.size], min(fit.error for fit in self.fits.values())
        return fit.colour == shape.colour and fit.error <= best * TOLERANCE + LEEWAY

    def __str__(self) -> str:
        """The best explanation in words."""
        if self.difference < EMPTY_BELOW:
            return "nothing"
        (kind, size), fit = min(self.fits.items(), key=lambda item: item[1].error)
        return f"a {size} {fit.colour} {kind}"


@dataclass(frozen=True)
class Judgement:
    """What the judge decided, and why."""

    edit_shown: bool
    """The last frames show the whole edit."""
    rest_untouched: bool
    """Nothing but the edit's target, place and path differs from the first frame."""
    reasons: tuple[str, ...]
    """One sentence per thing that is not as promised; empty for a perfect clip."""


class _Masks(NamedTuple):
    labels: list[tuple[ShapeKind, Size]]
    coverage: NDArray[np.float32]  # (shapes, window, window)
    blurred: NDArray[np.float32]  # the same, as a blurred picture shows them


def judge(video: Video, scene: Scene) -> Judgement:
    """Judge a clip of uint8 frames, (frames, height, width, 3), of the size that `render` draws."""
    last = blur(video[EDIT_COMPLETE_AT:].astype(np.float32).mean(0), BLUR)
    background = paint_background(scene.background)
    before = {shape.cell: shape for shape in scene.shapes}
    after = {shape.cell: shape for shape in scene.edited_shapes}
    missing, touched = [], []
    for cell in CELLS:
        sight = look(last, background, cell, may_grow=False)
        if not sight.is_explained_by(after.get(cell)):
            reasons = touched if before.get(cell) == after.get(cell) else missing
            reasons.append(f"{place_name(cell)}: {sight} instead of {_said(after.get(cell))}")
    if change_off_path(video, scene) > CHANGE_ABOVE:
        touched.append("a place off the edit's path does not look like the first frame")
    return Judgement(not missing, not touched, tuple(missing + touched))


def look(blurred: Image, background: Image, cell: int, *, may_grow: bool) -> Sight:
    """Everything that a cell of a blurred picture could hold, with how badly it would explain the pixels.

    Where shapes may grow, those a little smaller or larger than their size is drawn are laid on it, too.
    """
    rows, columns = cell_window(cell)
    seen, ground = blurred[rows, columns], background[rows, columns]
    difference = float(np.sqrt(((seen - blur(background, BLUR)[rows, columns]) ** 2).mean()))
    return Sight(difference, {} if difference < EMPTY_BELOW else _fits(seen, ground, _masks(cell, may_grow)))


def _fits(seen: Image, ground: Image, masks: _Masks) -> dict[tuple[ShapeKind, Size], Fit]:
    """The best shift and colour for each kind and size of shape."""
    missing = seen - blur(ground * (1 - masks.coverage[..., None]), BLUR)  # -> (masks, window, window, 3)
    within = masks.blurred
    colours = np.einsum("mij,mijc->mc", within, missing) / np.einsum("mij,mij->m", within, within)[:, None]
    colours = np.clip(colours, 0, 255)  # least squares -> (masks, 3)
    missing -= within[..., None] * colours[:, None, None]
    errors = np.sqrt(np.einsum("mijc,mijc->m", missing, missing) / missing[0].size)
    best_last = np.argsort(-errors)  # later ones replace earlier ones
    best = {masks.labels[index]: index for index in best_last}
    return {label: Fit(_colour_name(colours[index]), float(errors[index])) for label, index in best.items()}


def blur(images: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Box blur over the last but one two axes (height, width, channels last); the edges repeat."""
    reach = width // 2
    margins = [(0, 0)] * (images.ndim - 3) + [(reach, reach), (reach, reach), (0, 0)]
    padded = np.pad(images, margins, mode="edge")
    height, across = images.shape[-3], images.shape[-2]
    tall = functools.reduce(np.add, [padded[..., shift : shift + height, :, :] for shift in range(width)])
    wide = functools.reduce(np.add, [tall[..., :, shift : shift + across, :] for shift in range(width)])
    return wide / np.float32(width**2)


def _said(shape: Shape | None) -> str:
    return "nothing" if shape is None else f"a {shape.size} {shape.colour} {shape.kind}"


def change_off_path(video: Video, scene: Scene) -> float:
    """The largest change of a 5×5 patch where the edit has no business.

    Measured from the clip's own first frame, so that what codec or autoencoder do to every frame alike cancels out. A
    clip that is wrong from the start is caught by the reading of its cells.
    """
    truth, start = render(scene).astype(np.float32), first_frame(scene).astype(np.float32)
    path = blur(abs(truth - start).max(axis=(0, 3))[..., None], PATH_MARGIN)[..., 0] > 0.5
    change = abs(blur(video.astype(np.float32) - video[0], 5)).max(axis=3)  # -> (frames, height, width)
    return float(change[:, ~path].max())


def _colour_name(colour: NDArray[np.float32]) -> str:
    distances = {name: float(np.linalg.norm(colour - np.array(value))) for name, value in PALETTE.items()}
    nearest = min(distances, key=distances.__getitem__)
    return nearest if distances[nearest] < COLOUR_WITHIN else "unclear"


def cell_window(cell: int) -> tuple[slice, slice]:
    """Rows and columns of a cell, with a little of its neighbours."""
    x, y = centre(cell)
    left, top = round(x - CELL_WINDOW / 2), round(y - CELL_WINDOW / 2)
    return slice(max(top, 0), min(top + CELL_WINDOW, HEIGHT)), slice(max(left, 0), min(left + CELL_WINDOW, WIDTH))


@functools.cache
def _masks(cell: int, may_grow: bool) -> _Masks:
    x, y = centre(cell)
    rows, columns = cell_window(cell)
    labels, pictures = [], []
    for kind, size in product(SHAPE_KINDS, SIZES):
        for growth, right, down in product(GROWTHS[size] if may_grow else (0.0,), SHIFTS, SHIFTS):
            labels.append((kind, size))
            pictures.append(coverage(kind, x + right, y + down, RADIUS[size] + growth)[rows, columns])
    stacked = np.stack(pictures)
    return _Masks(labels, stacked, blur(stacked[..., None], BLUR)[..., 0])
