"""Scenes to pixels: antialiased shapes from distance functions, on a textured background."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alignvid.miniature.scenes import PALETTE, Background, Rgb, Scene, Shape, ShapeKind, cell_at

WIDTH = HEIGHT = 80
CELL_PITCH = 24.0
"""Pixels from the middle of a cell to the next: three latent places, so that every cell lies alike in the latents."""
FIRST_CENTRE = 16.0
FRAMES = 9
EDIT_COMPLETE_AT = 6
"""Index of the first frame that shows the whole edit; it stays for the last three frames."""
RADIUS = {"small": 7.0, "large": 10.5}
"""In pixels. Cells are 24 pixels apart, so a large shape fills its cell without touching its neighbours."""
SPECKLE = 8  # pixels, the width of a latent place

Image = NDArray[np.float32]
Video = NDArray[np.uint8]


class Sprite(NamedTuple):
    """A shape as it stands in one frame, in pixels; `opacity` is 0..1."""

    kind: ShapeKind
    colour: NDArray[np.float32]
    x: float
    y: float
    radius: float
    opacity: float


def render(scene: Scene, *, shown: bool = True, until: float = 1.0) -> Video:
    """The clip of a scene, (frames, height, width, 3); without the edit it is the first frame, repeated.

    `until`: how much of the edit is shown at most, 0 to 1; there the clip stands still.
    """
    background = paint_background(scene.background)
    progress = [min(edit_progress(frame), until) if shown else 0.0 for frame in range(FRAMES)]
    frames = [draw(background, _sprites(scene, now)) for now in progress]
    return np.stack(frames).round().astype(np.uint8)


def first_frame(scene: Scene) -> Video:
    """The reference image of a scene, (height, width, 3)."""
    return draw(paint_background(scene.background), _sprites(scene, 0.0)).round().astype(np.uint8)


def foreground_mask(scene: Scene) -> NDArray[np.bool_]:
    """Which pixels of the reference image show a shape, (height, width): those that are covered at least by half."""
    covered = [coverage(sprite.kind, sprite.x, sprite.y, sprite.radius) for sprite in _sprites(scene, 0.0)]
    return np.max(covered, axis=0) >= 0.5


def edit_progress(frame: int) -> float:
    """How much of the edit a frame shows, 0 to 1."""
    return min(frame / EDIT_COMPLETE_AT, 1.0)


def centre(cell: int) -> tuple[float, float]:
    """The middle of a cell, (x, y) in pixels."""
    row, column = cell_at(cell)
    return FIRST_CENTRE + column * CELL_PITCH, FIRST_CENTRE + row * CELL_PITCH


def coverage(kind: ShapeKind, x: float, y: float, radius: float) -> Image:
    """How much of each pixel a shape covers, 0 to 1, from its signed distance."""
    across, down = _pixel_grid()
    dx, dy = across - x, down - y
    match kind:
        case "circle":
            distance = np.hypot(dx, dy) - radius
        case "square":
            distance = np.maximum(abs(dx), abs(dy)) - 0.88 * radius
        case "triangle":
            outer = 1.3 * radius  # circumradius; a quarter of it lowers the tip so that the box is centred
            dy = dy - outer / 4
            distance = np.maximum(dy, np.sqrt(0.75) * abs(dx) - dy / 2) - outer / 2
    visible = min(radius, 1.0)  # a shape that has not begun to grow covers nothing
    return np.clip(0.5 - distance, 0, 1).astype(np.float32) * np.float32(visible)


def paint_background(background: Background) -> Image:
    """The background alone, (height, width, 3), 0 to 255."""
    mix = _texture(background)[..., None]
    return np.asarray(_rgb(background.colour) * (1 - mix) + _rgb(background.accent) * mix, np.float32)


@functools.cache
def _pixel_grid() -> tuple[Image, Image]:
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32) + 0.5
    return across, down


def _texture(background: Background) -> Image:
    across, down = _pixel_grid()
    along = across * np.cos(background.angle) + down * np.sin(background.angle)
    match background.texture:
        case "plain":
            return np.zeros((HEIGHT, WIDTH), np.float32)
        case "gradient":
            return ((along - along.min()) / np.ptp(along)).astype(np.float32)
        case "stripes":
            return (0.5 + 0.5 * np.sin(along * 2 * np.pi / 16)).astype(np.float32)
        case "checks":
            return ((across // 8 + down // 8) % 2).astype(np.float32)
        case "speckle":
            blocks = np.random.default_rng(background.seed).random((HEIGHT // SPECKLE, WIDTH // SPECKLE), np.float32)
            return np.kron(blocks, np.ones((SPECKLE, SPECKLE), np.float32))


def _rgb(colour: Rgb) -> Image:
    return np.array(colour, np.float32)


def draw(background: Image, sprites: list[Sprite]) -> Image:
    """A frame: the sprites on the background, later ones in front."""
    image = background
    for sprite in sprites:
        alpha = coverage(sprite.kind, sprite.x, sprite.y, sprite.radius)[..., None] * np.float32(sprite.opacity)
        image = image * (1 - alpha) + sprite.colour * alpha
    return np.asarray(image, np.float32)


def _sprites(scene: Scene, progress: float) -> list[Sprite]:
    sprites = [_sprite(shape) for index, shape in enumerate(scene.shapes) if index != scene.edit.target]
    before = None if scene.edit.target is None else _sprite(scene.shapes[scene.edit.target])
    after = None if scene.edit.result is None else _sprite(scene.edit.result)
    if before is None and after is not None:
        return [*sprites, after._replace(radius=after.radius * progress)] if progress else sprites
    if before is not None and after is None:
        return [*sprites, before._replace(opacity=1 - progress)]
    return sprites if before is None or after is None else [*sprites, mixed(before, after, progress)]


def _sprite(shape: Shape) -> Sprite:
    return Sprite(shape.kind, _rgb(PALETTE[shape.colour]), *centre(shape.cell), RADIUS[shape.size], 1.0)


def mixed(before: Sprite, after: Sprite, progress: float) -> Sprite:
    """A sprite part of the way: colour, place and radius are mixed, so one rule serves three kinds of edit."""
    return before._replace(
        colour=before.colour + (after.colour - before.colour) * np.float32(progress),
        x=before.x + (after.x - before.x) * progress,
        y=before.y + (after.y - before.y) * progress,
        radius=before.radius + (after.radius - before.radius) * progress,
    )
