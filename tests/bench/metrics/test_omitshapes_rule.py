"""Whole clips of OmitShapes by rule: rendered clips whose answer is known."""

from pathlib import Path

import numpy as np
import pytest

from alignvid.bench.data.omitshapes import scene_of
from alignvid.bench.metrics import Footage, Setup, find_metrics
from alignvid.bench.metrics.registry import metric_names
from alignvid.errors import InputError
from alignvid.miniature.drawing import render

SAMPLE = "scene-2000123-add"
NAMES = ("edit_shown", "rest_untouched", "edit_shown_rest_untouched")


def values(frames: np.ndarray, sample: str = SAMPLE) -> list[float]:
    setup = Setup(protocol="native", weights={}, device="cpu")
    footage = Footage(frames=frames, fps=8.0, prompt="", image=Path("image.png"), sample=sample)
    return [metric.prepare(setup)(footage).value for metric in find_metrics(NAMES)]


def test_every_metric_has_the_name_under_which_it_is_found():
    assert [metric.name for metric in find_metrics(metric_names())] == metric_names()


def test_a_clip_that_shows_the_edit_alone_has_all_three():
    assert values(render(scene_of(SAMPLE))) == [1.0, 1.0, 1.0]


def test_a_clip_that_stands_still_leaves_the_rest_untouched_and_no_more():
    clip = render(scene_of(SAMPLE))

    assert values(np.repeat(clip[:1], len(clip), axis=0)) == [0.0, 1.0, 0.0]


def test_a_clip_that_turns_black_has_none():
    clip = render(scene_of(SAMPLE)).copy()
    clip[1:] = 0

    assert values(clip) == [0.0, 0.0, 0.0]


def test_a_sample_of_another_data_set_is_refused():
    with pytest.raises(InputError, match="no sample of OmitShapes"):
        values(render(scene_of(SAMPLE)), sample="sample_0")


def test_a_video_of_another_size_is_refused():
    with pytest.raises(InputError, match="not 2 of 8×8"):
        values(np.zeros((2, 8, 8, 3), np.uint8))
