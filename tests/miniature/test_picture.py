import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from alignvid.miniature.drawing import HEIGHT, WIDTH, first_frame
from alignvid.miniature.picture import unlike_the_world
from alignvid.miniature.scenes import HELD_OUT, sample_scene


def as_jpeg(frame):
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=70)
    return np.asarray(Image.open(buffer).convert("RGB"))


@pytest.mark.parametrize("form", [np.asarray, as_jpeg], ids=["as drawn", "as JPEG"])
def test_made_scenes_are_of_the_world(form):
    reasons = {seed: unlike_the_world(form(first_frame(sample_scene(HELD_OUT[seed])))) for seed in range(60)}
    assert not {seed: reason for seed, reason in reasons.items() if reason}


def test_a_user_s_own_drawing_is_of_the_world():
    drawing = Image.new("RGB", (512, 512), (140, 140, 135))
    pen = ImageDraw.Draw(drawing)
    pen.ellipse((40, 40, 150, 150), fill=(220, 40, 40))
    pen.rectangle((350, 350, 460, 460), fill=(40, 60, 220))
    assert unlike_the_world(np.asarray(drawing.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))) is None


def grid():
    return np.mgrid[:HEIGHT, :WIDTH]


OTHERS = {
    "colours everywhere": (lambda: np.stack([grid()[1] * 4, grid()[0] * 4, sum(grid())], -1), "are vivid colours"),
    "noise": (lambda: np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)), "are vivid colours"),
    "a grey photo": (lambda: np.repeat(grid()[1][..., None] * 4, 3, -1), "is no plain ground"),
    "white paper": (lambda: np.full((HEIGHT, WIDTH, 3), 255), "nearly white"),
    "night": (lambda: np.zeros((HEIGHT, WIDTH, 3)), "nearly black"),
    "nothing": (lambda: np.full((HEIGHT, WIDTH, 3), 128), "no coloured shape"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_pictures_are_not_with_the_reason(case):
    make, reason = OTHERS[case]
    assert reason in (unlike_the_world(make().astype(np.uint8)) or "")
