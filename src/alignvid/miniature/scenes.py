"""The miniature's world: one to three coloured shapes on a muted background, and one edit that unfolds in the clip.

A scene is made from a seed and nothing else. Training, development, calibration and held-out seeds never overlap.
Colours of the shapes in a scene differ, so that "the red circle" names one shape only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeVar

import numpy as np

T = TypeVar("T")
EditKind = Literal["add", "delete", "recolour", "move", "resize"]
ShapeKind = Literal["circle", "square", "triangle"]
Size = Literal["small", "large"]
Texture = Literal["plain", "gradient", "stripes", "checks", "speckle"]
Rgb = tuple[int, int, int]

TRAIN = range(0, 1_000_000)
DEVELOPMENT = range(1_000_000, 1_100_000)
CALIBRATION = range(1_500_000, 1_600_000)
HELD_OUT = range(2_000_000, 2_100_000)

SHAPE_KINDS: tuple[ShapeKind, ...] = ("circle", "square", "triangle")
SIZES: tuple[Size, ...] = ("small", "large")
TEXTURES: tuple[Texture, ...] = ("plain", "gradient", "stripes", "checks", "speckle")
EDIT_KINDS: tuple[EditKind, ...] = ("add", "delete", "recolour", "move", "resize")
PALETTE: dict[str, Rgb] = {
    "red": (225, 30, 35),
    "yellow": (240, 215, 30),
    "green": (30, 170, 50),
    "cyan": (25, 205, 220),
    "blue": (35, 60, 225),
    "purple": (190, 40, 205),
}
PLACES = (
    ("top left", "top middle", "top right"),
    ("middle left", "centre", "middle right"),
    ("bottom left", "bottom middle", "bottom right"),
)
GRID = 3
CELLS = range(GRID * GRID)

# OmitI2V, 366 pairs: modification 34.19 %, addition 33.16 %, deletion 32.65 %; modification is split evenly here.
EDIT_SHARES: dict[EditKind, float] = {
    "add": 0.3316,
    "delete": 0.3265,
    "recolour": 0.3419 / 3,
    "move": 0.3419 / 3,
    "resize": 0.3419 / 3,
}
# In training the three modifications, each harder than a deletion, are seen more often.
TRAINING_SHARES: dict[EditKind, float] = {"add": 0.28, "delete": 0.21, "recolour": 0.17, "move": 0.17, "resize": 0.17}

ADDED_SIZE_SHARES = [0.3, 0.7]
"""Of small and large shapes among those that are added; a prompt says so where they are small."""


@dataclass(frozen=True)
class Shape:
    """One coloured shape, centred in a cell of the 3×3 grid."""

    kind: ShapeKind
    colour: str
    cell: int
    size: Size


@dataclass(frozen=True)
class Background:
    """A muted texture behind the shapes, the same in every frame."""

    texture: Texture
    colour: Rgb
    accent: Rgb
    angle: float
    """Direction of gradient and stripes, in radians."""
    seed: int
    """Decides the speckles."""


@dataclass(frozen=True)
class Edit:
    """One change: `target` is an index in the scene's shapes (None: add); `result` is the new shape (None: delete)."""

    kind: EditKind
    target: int | None
    result: Shape | None


@dataclass(frozen=True)
class Scene:
    """What the first frame shows, and the edit that a prompt asks for."""

    shapes: tuple[Shape, ...]
    background: Background
    edit: Edit

    @property
    def edited_shapes(self) -> tuple[Shape, ...]:
        """The shapes once the edit is complete."""
        kept = tuple(shape for index, shape in enumerate(self.shapes) if index != self.edit.target)
        return kept if self.edit.result is None else (*kept, self.edit.result)


class Cell(NamedTuple):
    """A row and a column of the grid, from the top left."""

    row: int
    column: int


def cell_at(index: int) -> Cell:
    """Row and column of a cell number."""
    return Cell(*divmod(index, GRID))


def place_name(cell: int) -> str:
    """What prompts call a cell, such as "top left"."""
    row, column = cell_at(cell)
    return PLACES[row][column]


def sample_scene(seed: int, *, edit_kind: EditKind | None = None) -> Scene:
    """The scene of this seed; its kind of edit is drawn with the training shares unless given."""
    rng = np.random.default_rng(seed)
    drawn: EditKind = _pick(rng, EDIT_KINDS, [TRAINING_SHARES[kind] for kind in EDIT_KINDS])
    shapes = _sample_shapes(rng)
    background = sample_background(rng)
    return Scene(shapes, background, _sample_edit(rng, edit_kind or drawn, shapes))


def evaluation_scenes(seeds: range, count: int) -> list[Scene]:
    """The first `count` scenes of a seed range, balanced over kinds of edit as OmitI2V is."""
    bounds = np.round(np.cumsum(list(EDIT_SHARES.values())) * count).astype(int)
    kinds = [EDIT_KINDS[kind] for kind in np.searchsorted(bounds, np.arange(count), side="right")]
    order = np.random.default_rng(seeds.start).permutation(count)
    return [sample_scene(seeds[index], edit_kind=kinds[order[index]]) for index in range(count)]


def _pick(rng: np.random.Generator, options: tuple[T, ...], shares: list[float] | None = None) -> T:
    weights = None if shares is None else np.array(shares) / sum(shares)
    return options[rng.choice(len(options), p=weights)]


def _sample_shapes(rng: np.random.Generator) -> tuple[Shape, ...]:
    count = int(rng.integers(1, 4))
    cells, colours = rng.permutation(len(CELLS)), rng.permutation(list(PALETTE))
    return tuple(
        Shape(_pick(rng, SHAPE_KINDS), str(colours[index]), int(cells[index]), _pick(rng, SIZES, [0.4, 0.6]))
        for index in range(count)
    )


def sample_background(rng: np.random.Generator) -> Background:
    """A muted background; shapes are brighter or more colourful than it is."""
    grey = rng.uniform(75, 185)
    colour = np.clip(grey + rng.uniform(-14, 14, 3), 0, 255).astype(int)
    accent = np.clip(colour + rng.choice([-1, 1]) * rng.uniform(12, 24) + rng.uniform(-5, 5, 3), 0, 255).astype(int)
    return Background(
        texture=_pick(rng, TEXTURES),
        colour=(int(colour[0]), int(colour[1]), int(colour[2])),
        accent=(int(accent[0]), int(accent[1]), int(accent[2])),
        angle=float(rng.uniform(0, np.pi)),
        seed=int(rng.integers(2**31)),
    )


def _sample_edit(rng: np.random.Generator, kind: EditKind, shapes: tuple[Shape, ...]) -> Edit:
    free_colours = tuple(colour for colour in PALETTE if colour not in {shape.colour for shape in shapes})
    free_cells = tuple(cell for cell in CELLS if cell not in {shape.cell for shape in shapes})
    if kind == "add":
        size: Size = _pick(rng, SIZES, ADDED_SIZE_SHARES)
        new = Shape(_pick(rng, SHAPE_KINDS), _pick(rng, free_colours), _pick(rng, free_cells), size)
        return Edit(kind, None, new)
    target = int(rng.integers(len(shapes)))
    shape = shapes[target]
    match kind:
        case "delete":
            return Edit(kind, target, None)
        case "recolour":
            return Edit(kind, target, replace(shape, colour=_pick(rng, free_colours)))
        case "resize":
            return Edit(kind, target, replace(shape, size="small" if shape.size == "large" else "large"))
        case "move":
            reachable = tuple(cell for cell in free_cells if _path_is_clear(shape, cell, shapes))
            return Edit(kind, target, replace(shape, cell=_pick(rng, reachable)))


def _path_is_clear(shape: Shape, cell: int, shapes: tuple[Shape, ...]) -> bool:
    """Whether a straight slide to `cell` keeps 0.7 of a cell (half its diagonal) away from every other shape."""
    start, end = np.array(cell_at(shape.cell), float), np.array(cell_at(cell), float)
    steps = start + np.linspace(0, 1, 17)[:, None] * (end - start)
    others = [np.array(cell_at(other.cell), float) for other in shapes if other.cell != shape.cell]
    return all(np.linalg.norm(steps - other, axis=1).min() >= 0.7 for other in others)
