"""Scenes: reproducible, unambiguous, and apart between training and evaluation."""

from __future__ import annotations

from collections import Counter

import numpy as np

from alignvid.miniature.drawing import FRAMES, HEIGHT, WIDTH, first_frame, foreground_mask, paint_background, render
from alignvid.miniature.scenes import (
    CALIBRATION,
    DEVELOPMENT,
    HELD_OUT,
    TRAIN,
    evaluation_scenes,
    sample_scene,
)

SCENES = [sample_scene(seed) for seed in range(300)]


def test_seed_ranges_do_not_overlap() -> None:
    ranges = (TRAIN, DEVELOPMENT, CALIBRATION, HELD_OUT)
    starts_and_stops = [end for seeds in ranges for end in (seeds.start, seeds.stop)]
    assert starts_and_stops == sorted(starts_and_stops)


def test_a_seed_always_gives_the_same_scene() -> None:
    assert sample_scene(7) == sample_scene(7) != sample_scene(8)


def test_colours_in_a_scene_name_one_shape() -> None:
    for scene in SCENES:
        colours = [shape.colour for shape in scene.edited_shapes]
        assert len(set(colours)) == len(colours)


def test_cells_hold_one_shape() -> None:
    for scene in SCENES:
        cells = [shape.cell for shape in scene.edited_shapes]
        assert len(set(cells)) == len(cells)


def test_clips_begin_with_the_reference_image_and_end_changed() -> None:
    for scene in SCENES[:30]:
        video = render(scene)
        assert video.shape == (FRAMES, HEIGHT, WIDTH, 3)
        assert np.array_equal(video[0], first_frame(scene))
        assert not np.array_equal(video[-1], video[0])
        assert np.array_equal(video[-1], video[-3])


def test_a_clip_without_its_edit_stands_still() -> None:
    assert all(np.array_equal(frame, first_frame(SCENES[0])) for frame in render(SCENES[0], shown=False))


def test_the_foreground_is_what_the_shapes_hide_of_the_background() -> None:
    for scene in SCENES[:30]:
        differs = np.abs(first_frame(scene).astype(float) - paint_background(scene.background)).max(2)
        mask = foreground_mask(scene)
        assert differs[mask].min() > 5 and 0 < mask.mean() < 0.3
        assert differs[~mask].max() > 0  # antialiased rims that are covered by less than half are not in it


def test_evaluation_scenes_are_balanced_as_omit_i2v() -> None:
    kinds = Counter(scene.edit.kind for scene in evaluation_scenes(HELD_OUT, 366))
    assert kinds == {"add": 121, "delete": 120, "recolour": 42, "move": 41, "resize": 42}
