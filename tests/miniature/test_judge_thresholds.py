"""The rule judge on either side of each of its thresholds, with pictures made to lie there."""

import numpy as np
import pytest

from alignvid.miniature.drawing import EDIT_COMPLETE_AT, FRAMES, RADIUS, centre, coverage, paint_background, render
from alignvid.miniature.judge import BLUR, Fit, Sight, blur, change_off_path, judge, look
from alignvid.miniature.scenes import CELLS, DEVELOPMENT, PALETTE, SHAPE_KINDS, SIZES, Edit, Scene, Shape, sample_scene

SCENE = sample_scene(DEVELOPMENT[0], edit_kind="delete")


def free_cell(scene: Scene) -> int:
    """A cell that holds nothing, before and after."""
    used = {shape.cell for shape in (*scene.shapes, *scene.edited_shapes)}
    return next(cell for cell in CELLS if cell not in used)


@pytest.mark.parametrize(("offset", "seen"), [(8.9, "nothing"), (9.1, "something")])
def test_a_cell_is_empty_below_nine_levels_from_the_background(offset, seen):
    background = paint_background(SCENE.background)
    sight = look(blur(background + np.float32(offset), BLUR), background, 4, may_grow=False)
    assert sight.difference == pytest.approx(offset, abs=0.01)
    assert (str(sight) == "nothing") is (seen == "nothing")
    assert sight.is_explained_by(None) is (seen == "nothing")


@pytest.mark.parametrize("right", range(-2, 3))
@pytest.mark.parametrize("down", range(-2, 3))
def test_a_shape_is_read_up_to_two_pixels_beside_its_place(right, down):
    background, (x, y) = paint_background(SCENE.background), centre(4)
    mask = coverage("circle", x + right, y + down, RADIUS["large"])[..., None]
    sight = look(blur(background * (1 - mask) + mask * np.float32(PALETTE["red"]), BLUR), background, 4, may_grow=False)
    assert str(sight) == "a large red circle"
    assert sight.fits["circle", "large"].error < 5  # a pixel further it is above 11


def test_a_blur_is_the_mean_of_a_box_whose_edges_repeat():
    picture = np.random.default_rng(0).random((5, 7, 3)).astype(np.float32)
    padded = np.pad(picture, [(1, 1), (1, 1), (0, 0)], mode="edge")
    expected = np.array([[padded[y : y + 3, x : x + 3].mean((0, 1)) for x in range(7)] for y in range(5)])
    assert blur(picture, 3) == pytest.approx(expected, abs=1e-6)
    assert blur(np.stack([picture, picture]), 3)[1] == pytest.approx(expected, abs=1e-6)


def colour_at(distance: float) -> tuple[str, np.ndarray]:
    """A colour at this distance from its nearest name, and further from all others."""
    rng, values = np.random.default_rng(0), np.array(list(PALETTE.values()), float)
    while True:
        index, direction = int(rng.integers(len(values))), rng.normal(size=3)
        colour = values[index] + distance * direction / np.linalg.norm(direction)
        distances = np.linalg.norm(values - colour, axis=1)
        if colour.min() > 1 and colour.max() < 254 and np.sort(distances)[1] > distance + 1:
            return list(PALETTE)[index], colour.astype(np.float32)


@pytest.mark.parametrize(("distance", "is_clear"), [(74.0, True), (76.0, False)])
def test_a_colour_has_a_name_within_seventy_five_levels(distance, is_clear):
    name, colour = colour_at(distance)
    background, (x, y) = paint_background(SCENE.background), centre(4)
    mask = coverage("circle", x, y, RADIUS["large"])[..., None]
    sight = look(blur(background * (1 - mask) + mask * colour, BLUR), background, 4, may_grow=False)
    assert sight.fits["circle", "large"].colour == (name if is_clear else "unclear")


@pytest.mark.parametrize(
    ("best", "error", "is_explained"),
    [
        (10.0, 14.9, True),
        (10.0, 15.1, False),
        (0.0, 1.9, True),
        (0.0, 2.1, False),
        (100.0, 131.9, True),
        (100.0, 132.1, False),
    ],
)
def test_the_promised_shape_may_fit_a_third_and_two_levels_worse_than_the_best(best, error, is_explained):
    fits = {(kind, size): Fit("red", 500.0) for kind in SHAPE_KINDS for size in SIZES}
    fits["circle", "small"], fits["square", "small"] = Fit("red", float(best)), Fit("red", error)
    sight = Sight(50.0, fits)
    assert sight.is_explained_by(Shape(kind="square", size="small", colour="red", cell=0)) is is_explained


def with_flash(scene: Scene, frame: int, top: int, left: int, levels: float, side: int = 9) -> np.ndarray:
    """A rendered clip with a square that is brighter or darker in one frame."""
    video = render(scene).astype(np.float32)
    patch = video[frame, top : top + side, left : left + side]
    patch += levels if video[0, top : top + side, left : left + side].max() + levels < 255 else -levels
    assert 0 <= patch.min() <= patch.max() <= 255
    return video.round().astype(np.uint8)


@pytest.mark.parametrize(("levels", "is_untouched"), [(57, True), (59, False)])
def test_a_patch_has_changed_above_fifty_eight_levels(levels, is_untouched):
    x, y = centre(free_cell(SCENE))
    video = with_flash(SCENE, 3, int(y) - 4, int(x) - 4, levels)
    assert change_off_path(video, SCENE) == pytest.approx(levels, abs=0.5)
    assert judge(video, SCENE).rest_untouched is is_untouched


@pytest.mark.parametrize("frame", range(1, FRAMES))
def test_a_flash_off_the_path_counts_in_every_frame_but_the_first(frame):
    x, y = centre(free_cell(SCENE))
    assert not judge(with_flash(SCENE, frame, int(y) - 4, int(x) - 4, 120), SCENE).rest_untouched


def test_a_slow_change_off_the_path_counts_as_a_quick_one():
    x, y = centre(free_cell(SCENE))
    rows, columns = slice(int(y) - 4, int(y) + 5), slice(int(x) - 4, int(x) + 5)
    video = render(SCENE).astype(np.float32)
    away = np.where(video[0, rows, columns] > 127, -1.0, 1.0)
    video[:, rows, columns] += np.linspace(0.0, 120.0, FRAMES)[:, None, None, None] * away  # 15 levels a frame
    assert change_off_path(video.round().astype(np.uint8), SCENE) == pytest.approx(120, abs=1)


def test_a_flash_on_the_path_is_no_touch():
    """What the edit itself does on its way is its own business."""
    x, y = centre(SCENE.shapes[SCENE.edit.target].cell)
    video = render(SCENE)
    video[2, int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3] ^= 0xFF
    assert judge(video, SCENE).rest_untouched


def test_the_path_ends_beside_the_edit():
    """A column of one pixel beside a deleted square: two more belong to the path, from the third on it counts.

    With a margin of 7 pixels the second one would count, with 11 not even the third.
    """
    square = Scene((Shape("square", "red", 4, "large"),), SCENE.background, Edit("delete", 0, None))
    moved = abs(render(square).astype(int) - render(square)[0]).max(axis=(0, 3)) > 2
    last = np.flatnonzero(moved.any(axis=0))[-1]
    row = int(np.flatnonzero(moved[:, last]).mean())
    changes = []
    for gap in (2, 3):
        video = render(square)
        column = video[4, row - 2 : row + 3, last + gap]
        column[:] = np.where(column > 127, 0, 255)
        changes.append(change_off_path(video, square))
    assert changes[0] < 3
    assert changes[1] > 20


def on_target(video: np.ndarray, frame: int) -> np.ndarray:
    """The edit's own cell, wildly painted in one frame."""
    x, y = centre(SCENE.shapes[SCENE.edit.target].cell)
    spoilt = video.copy()
    spoilt[frame, max(int(y) - 11, 0) : int(y) + 11, max(int(x) - 11, 0) : int(x) + 11] = (255, 0, 255)
    return spoilt


@pytest.mark.parametrize("frame", range(FRAMES))
def test_the_edit_is_read_in_the_frames_in_which_it_must_be_complete(frame):
    shown = judge(on_target(render(SCENE), frame), SCENE).edit_shown
    assert shown is (frame < EDIT_COMPLETE_AT)


def test_the_last_frames_count_together_and_not_one_of_them_alone():
    """A deletion that only the very last frame shows is half a deletion."""
    video = render(SCENE, shown=False)
    video[-1] = render(SCENE)[-1]
    assert not judge(video, SCENE).edit_shown
