"""The stricter rule judge: what a person would call shown, and no more than the prompt asks for.

Right kind of shape, place and colour; a size only where the prompt says one; a ghost is not a removal. It judges a made
scene that it knows, or a user's own flat picture, whose scene it reads from the first frame.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from alignvid.errors import InputError
from alignvid.miniature.drawing import EDIT_COMPLETE_AT, FRAMES, HEIGHT, WIDTH, Image, Video
from alignvid.miniature.judge import BLUR, CHANGE_ABOVE, Judgement, Sight, blur, cell_window, change_off_path, look
from alignvid.miniature.picture import Ground, Picture, known_ground, read_picture
from alignvid.miniature.requests import Request, Wanted, read_request
from alignvid.miniature.scenes import CELLS, Background, Edit, Scene, Shape, ShapeKind, Size, place_name

BARE_BELOW = 30.0
"""Largest distance of a 5×5 patch from the ground, in colour levels, under which a person sees nothing there."""
PATCH = 5
CORNERS_COUNT: dict[Size, float] = {"small": 1.2, "large": 1.4}
"""Between a square and a circle a circle must fit better by this factor: squares that are made have round corners."""
SHAPELESS_ABOVE = 0.3
"""What the best fit leaves over, as a share of the cell's difference from the ground; above it a person sees a blot."""
AS_GOOD_AS = 1.05
"""A new shape is called what it is called best, or what fits it at most this factor worse."""
KEPT_AS_GOOD_AS = 1.3
"""The same of a shape that is to stay: who saw it before still sees it where its corners wear off."""
BLANK = Background("plain", (128, 128, 128), (128, 128, 128), 0.0, 0)


def judge_scene(video: Video, scene: Scene, request: Request) -> Judgement:
    """Judge a clip of a made scene by what the prompt asks for (`request_of` gives it without reading)."""
    return judge_request(video, Picture(scene.shapes, known_ground(scene.background)), request)


def judge_picture(video: Video, reference: Video, prompt: str) -> Judgement:
    """Judge a clip by its reference picture and its prompt alone.

    Raises: InputError if the picture or the prompt can't be read, or the prompt names no shape of the picture.
    """
    return judge_request(video, read_picture(reference), read_request(prompt))


def judge_request(video: Video, before: Picture, request: Request) -> Judgement:
    """Judge a clip of uint8 frames, (frames, height, width, 3), against what was there and what was asked for.

    Raises: InputError if the clip has another size, or the request's target is not one of the shapes.
    """
    if video.shape != (FRAMES, HEIGHT, WIDTH, 3):
        raise InputError(f"The clip has shape {video.shape}; this judge needs {(FRAMES, HEIGHT, WIDTH, 3)}.")
    end = Ending(blur(video[EDIT_COMPLETE_AT:].astype(np.float32).mean(0), BLUR), before.ground)
    target = request.target_among(before.shapes)
    at_cell = {shape.cell: shape for shape in before.shapes}
    found = _result_cell(end, before, request, target)
    missing = _missing(end, request, target, found)
    own = {found, None if target is None else target.cell}
    touched = [
        f"{place_name(cell)}: {end.said(cell)} instead of {_name(at_cell.get(cell))}"
        for cell in CELLS
        if cell not in own and not _is_as_before(end, cell, at_cell.get(cell))
    ]
    if change_off_path(video, _path(before, request, target, found)) > CHANGE_ABOVE:
        touched.append("a place off the edit's path does not look like the first frame")
    return Judgement(not missing, not touched, tuple(missing + touched))


class Label(NamedTuple):
    """What a person may call a shape."""

    kind: ShapeKind
    size: Size
    colour: str


class Ending:
    """The end of a clip, blurred, before a known ground; each cell is looked at once."""

    def __init__(self, last: Image, ground: Ground) -> None:
        self._last, self._ground = last, ground
        self._distance = blur(ground.distance(last)[..., None], PATCH)[..., 0]
        self._sights: dict[int, Sight] = {}

    def sight(self, cell: int) -> Sight:
        """Everything that the cell could hold."""
        if cell not in self._sights:
            self._sights[cell] = look(self._last, self._ground.image, cell, may_grow=True)
        return self._sights[cell]

    def is_bare(self, cell: int) -> bool:
        """Whether a person would see nothing but ground in the cell: no ghost, either."""
        rows, columns = (slice(side.start + PATCH // 2, side.stop - PATCH // 2) for side in cell_window(cell))
        return float(self._distance[rows, columns].max()) < BARE_BELOW  # patches that lie within the cell

    def shows(self, cell: int, wanted: Wanted, leeway: float) -> bool:
        """Whether a person would say that a shape as it is wanted is in the cell."""
        called = self._called(cell)
        best = min(called.values(), default=np.inf)
        return any(
            misfit <= best * leeway
            and wanted.kind in (None, label.kind)
            and wanted.size in (None, label.size)
            and wanted.colour in (None, label.colour)
            for label, misfit in called.items()
        )

    def said(self, cell: int) -> str:
        """What a person would call it."""
        called = self._called(cell)
        if called:
            return _name(min(called, key=called.__getitem__))
        return "nothing" if self.is_bare(cell) else "a ghost or a blot"

    def _called(self, cell: int) -> dict[Label, float]:
        """What the shape in the cell may be called, and how badly that fits; empty where none is seen."""
        sight = self.sight(cell)
        best = min((fit.error for fit in sight.fits.values()), default=np.inf)
        if self.is_bare(cell) or best > SHAPELESS_ABOVE * sight.difference:
            return {}
        return {
            Label(kind, size, fit.colour): fit.error * (CORNERS_COUNT[size] if kind == "circle" else 1.0)
            for (kind, size), fit in sight.fits.items()
            if fit.colour != "unclear"
        }


def _result_cell(end: Ending, before: Picture, request: Request, target: Shape | None) -> int | None:
    """Where the outcome is to be seen; of several possible cells the one that shows it, if there is one."""
    if request.kind not in ("add", "move"):
        return None if target is None else target.cell
    occupied = {shape.cell for shape in before.shapes}
    cells = [cell for cell in request.outcome.cells or CELLS if cell not in occupied]
    showing = [cell for cell in cells if end.shows(cell, _outcome(request, target), AS_GOOD_AS)]
    return showing[0] if showing else cells[0] if len(cells) == 1 else None


def _outcome(request: Request, target: Shape | None) -> Wanted:
    """How the shape is to look in the end; what the prompt leaves open it leaves open, but for what it begins with."""
    asked = request.outcome
    if target is None:
        return asked
    return Wanted(asked.colour or target.colour, target.kind, asked.size)


def _missing(end: Ending, request: Request, target: Shape | None, found: int | None) -> list[str]:
    missing = []
    if request.kind in ("delete", "move") and target is not None and not end.is_bare(target.cell):
        missing.append(f"{place_name(target.cell)}: {end.said(target.cell)} instead of nothing")
    if request.kind != "delete" and (found is None or not end.shows(found, _outcome(request, target), AS_GOOD_AS)):
        place = "nowhere a shape as asked for" if found is None else f"{place_name(found)}: {end.said(found)}"
        missing.append(f"{place}, asked for {_wanted_name(_outcome(request, target))}")
    return missing


def _is_as_before(end: Ending, cell: int, shape: Shape | None) -> bool:
    if shape is None:
        return end.is_bare(cell)
    return end.shows(cell, Wanted(shape.colour, shape.kind, shape.size), KEPT_AS_GOOD_AS)


def _path(before: Picture, request: Request, target: Shape | None, found: int | None) -> Scene:
    """A scene whose edit passes where this one may."""
    number = None if target is None else before.shapes.index(target)
    result: Shape | None = None
    if found is not None and request.kind != "delete":
        asked = _outcome(request, target)
        size = asked.size or (target.size if target else "large")
        result = Shape(asked.kind or "circle", asked.colour or "red", found, size)
    return Scene(before.shapes, BLANK, Edit(request.kind, number, result))


def _name(shape: Shape | Label | None) -> str:
    return "nothing" if shape is None else f"a {shape.size} {shape.colour} {shape.kind}"


def _wanted_name(wanted: Wanted) -> str:
    words = (wanted.size, wanted.colour, wanted.kind or "shape")
    return "a " + " ".join(word for word in words if word)
