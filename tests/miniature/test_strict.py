"""The stricter judge: right where the scene is known, and the same where it has to be read. All 2,000: --run-slow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from alignvid.errors import InputError
from alignvid.miniature.drawing import (
    HEIGHT,
    RADIUS,
    WIDTH,
    Video,
    centre,
    coverage,
    first_frame,
    paint_background,
    render,
)
from alignvid.miniature.judge import BLUR, Judgement, blur
from alignvid.miniature.picture import known_ground, read_picture
from alignvid.miniature.requests import Wanted, request_of
from alignvid.miniature.scenes import (
    DEVELOPMENT,
    HELD_OUT,
    PALETTE,
    SHAPE_KINDS,
    SIZES,
    Background,
    Shape,
    ShapeKind,
    sample_scene,
)
from alignvid.miniature.strict import AS_GOOD_AS, KEPT_AS_GOOD_AS, Ending, judge_picture, judge_scene
from alignvid.miniature.wordings import ask
from clips import known_clip, through_h264

QUICK, FULL = 24, 2000
REQUIRED, AGREED = 0.995, 0.98


def both(seed: int, *, compressed: bool) -> tuple[Judgement, Judgement, tuple[bool, bool]]:
    """The judgement with the scene known, the one with the scene read, and the truth."""
    known = known_clip(seed)
    video = through_h264(known.video) if compressed else known.video
    asked = ask(known.scene, np.random.default_rng(seed), "trained", open_share=0.0)
    request = request_of(known.scene, says_size=asked.says_size, says_place=asked.says_place)
    by_scene = judge_scene(video, known.scene, request)
    by_picture = judge_picture(video, first_frame(known.scene), asked.text)
    return by_scene, by_picture, (known.edit_shown, known.rest_untouched)


def verdict(judgement: Judgement) -> tuple[bool, bool]:
    return judgement.edit_shown, judgement.rest_untouched


@pytest.mark.parametrize(
    ("seeds", "compressed"),
    [
        pytest.param(DEVELOPMENT[:QUICK], False, id="quick"),
        pytest.param(HELD_OUT[:FULL], False, id="thousand", marks=pytest.mark.slow),
        pytest.param(HELD_OUT[:FULL], True, id="thousand-h264", marks=pytest.mark.slow),
    ],
)
def test_both_versions_are_right_and_agree(seeds: range, compressed: bool) -> None:
    judged = [both(seed, compressed=compressed) for seed in seeds]
    right = np.mean([verdict(by_scene) == truth for by_scene, _, truth in judged])
    agreed = np.mean([verdict(by_scene) == verdict(by_picture) for by_scene, by_picture, _ in judged])
    print(f"right {right:.4f}, agreed {agreed:.4f}, n = {len(judged)}")
    assert right >= REQUIRED and agreed >= AGREED


def test_a_size_counts_only_where_the_prompt_says_one() -> None:
    scene = sample_scene(DEVELOPMENT[0], edit_kind="add")
    assert scene.edit.result is not None
    small = render(replace(scene, edit=replace(scene.edit, result=replace(scene.edit.result, size="small"))))
    assert judge_scene(small, scene, request_of(scene, says_size=False, says_place=True)).edit_shown
    assert not judge_scene(small, scene, request_of(scene, says_size=True, says_place=True)).edit_shown


def test_a_place_counts_only_where_the_prompt_says_one() -> None:
    scene = sample_scene(DEVELOPMENT[0], edit_kind="add")
    assert scene.edit.result is not None
    used = {shape.cell for shape in scene.edited_shapes}
    cell = next(cell for cell in range(9) if cell not in used)
    elsewhere = render(replace(scene, edit=replace(scene.edit, result=replace(scene.edit.result, cell=cell))))
    anywhere = judge_scene(elsewhere, scene, request_of(scene, says_size=False, says_place=False))
    assert anywhere.edit_shown and anywhere.rest_untouched
    assert not judge_scene(elsewhere, scene, request_of(scene, says_size=False, says_place=True)).edit_shown


@pytest.mark.parametrize("opacity", [0.25, 0.5])
def test_a_ghost_is_not_a_removal(opacity: float) -> None:
    for seed in DEVELOPMENT[:4]:
        scene = sample_scene(seed, edit_kind="delete")
        gone, there = render(scene).astype(float), render(scene, shown=False)
        ghost = (gone + opacity * (there - gone)).round().astype(np.uint8)
        request = request_of(scene, says_size=False, says_place=True)
        assert not judge_scene(ghost, scene, request).edit_shown
        assert judge_scene(render(scene), scene, request).edit_shown


def test_a_recoloured_shape_of_another_kind_is_not_shown() -> None:
    scene = sample_scene(DEVELOPMENT[0], edit_kind="recolour")
    number = scene.edit.target
    assert number is not None
    kinds = {"circle": "square", "square": "triangle", "triangle": "circle"}
    shapes = list(scene.shapes)
    shapes[number] = replace(shapes[number], kind=kinds[shapes[number].kind])
    other = render(replace(scene, shapes=tuple(shapes)))
    video = np.concatenate([render(scene)[:6], other[6:]])
    assert not judge_scene(video, scene, request_of(scene, says_size=False, says_place=True)).edit_shown


CELL = 4
BACKGROUND = Background("plain", (120, 124, 118), (130, 130, 130), 0.0, 0)


def ending(mask: np.ndarray) -> Ending:
    """The end of a clip whose middle cell holds a red mask, 0 to 1, (height, width)."""
    ground = paint_background(BACKGROUND)
    picture = ground + mask[..., None] * (np.array(PALETTE["red"], np.float32) - ground)
    return Ending(blur(picture.astype(np.float32), BLUR), known_ground(BACKGROUND))


def rounded(roundness: float) -> np.ndarray:
    """A large square whose corners have a radius of this share of its half side: 0.1 almost a square, 1 a circle."""
    across, down = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    half = 0.94 * RADIUS["large"]
    beyond = np.maximum(np.abs([across - centre(CELL)[0], down - centre(CELL)[1]]) - half * (1 - roundness), 0)
    return np.clip(0.5 - (np.hypot(*beyond) - half * roundness), 0, 1)


def is_called(end: Ending, kind: ShapeKind) -> bool:
    return end.shows(CELL, Wanted("red", kind), AS_GOOD_AS)


@pytest.mark.parametrize(
    ("roundness", "kind"),
    [(0.1, "square"), (0.25, "square"), (0.5, "square"), (0.95, "circle"), (1.0, "circle")],
)
def test_a_square_with_round_corners_is_a_square(roundness: float, kind: ShapeKind) -> None:
    end = ending(rounded(roundness))
    assert [is_called(end, each) for each in SHAPE_KINDS] == [each == kind for each in SHAPE_KINDS]


@pytest.mark.parametrize("kind", SHAPE_KINDS)
@pytest.mark.parametrize("growth", [-1.0, 1.0])
def test_a_shape_a_little_smaller_or_larger_keeps_its_kind_and_size(kind: ShapeKind, growth: float) -> None:
    for size in SIZES:
        end = ending(coverage(kind, *centre(CELL), RADIUS[size] + growth))
        assert end.said(CELL) == f"a {size} red {kind}"


def test_half_a_square_is_a_blot() -> None:
    mask = coverage("square", *centre(CELL), RADIUS["large"])
    across, down = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    mask[(across - down) > 0] = 0
    mask[: int(centre(CELL)[1]) - 3] = 0
    end = ending(mask)
    assert end.said(CELL) == "a ghost or a blot"
    assert not end.is_bare(CELL) and not end.shows(CELL, Wanted("red"), AS_GOOD_AS)


def test_a_shape_that_is_to_stay_may_lose_its_corners() -> None:
    kept = Shape("square", "red", CELL, "large")
    end = ending(rounded(0.7))
    assert not end.shows(CELL, Wanted("red", "square"), AS_GOOD_AS)
    assert end.shows(kept.cell, Wanted(kept.colour, kept.kind, kept.size), KEPT_AS_GOOD_AS)


def test_the_shapes_of_a_picture_are_read() -> None:
    for seed in DEVELOPMENT[:20]:
        scene = sample_scene(seed)
        assert set(read_picture(first_frame(scene)).shapes) == set(scene.shapes)


def flat(colour: tuple[int, int, int]) -> Video:
    return np.full((HEIGHT, WIDTH, 3), colour, np.uint8)


@pytest.mark.parametrize(
    ("picture", "problem"),
    [
        (np.zeros((8, 8, 3), np.uint8), "has shape"),
        (flat((200, 0, 0)), "vivid colours, at most"),
    ],
)
def test_a_picture_that_cannot_be_read_is_refused(picture: Video, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read_picture(picture)


def test_a_shape_of_no_known_colour_is_refused() -> None:
    scene = sample_scene(DEVELOPMENT[0])
    picture = first_frame(scene)
    picture[HEIGHT // 2 - 6 : HEIGHT // 2 + 6, WIDTH // 2 - 6 : WIDTH // 2 + 6] = (120, 60, 0)
    with pytest.raises(InputError, match="no colour of the miniature's palette"):
        read_picture(picture)
