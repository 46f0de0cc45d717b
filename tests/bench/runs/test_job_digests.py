"""What decides a video is in the digest that names its job, and what does not decide it is not."""

from dataclasses import replace

import pytest

from alignvid.bench.runs.jobs import make_job, noise_seed
from alignvid.bench.runs.variants import Variant
from alignvid.blocks import BlockSet
from alignvid.generate.call import Settings
from alignvid.modulation import Scalar
from alignvid.recipe import Recipe
from alignvid.schedule import StepWindow
from judged_folders import sample_of

RECIPE = Recipe(Scalar(1.5, {"cross.text": 1.0}), BlockSet.of("all"), StepWindow.fraction(0.0, 0.5), "both")
SETTINGS = Settings(64, 64, 9, 10, 1.0, 8.0)
GIVEN = {
    "sample": sample_of(0),
    "variant": Variant("alignvid", RECIPE),
    "seed": 0,
    "settings": SETTINGS,
    "image": "images/a.png",
    "image_sha256": "a" * 64,
    "model": {"weights": "w1"},
    "shared": {"dtype": "float32", "batch": 1},
}


def digest(**changes) -> str:
    given = GIVEN | changes
    return make_job(given.pop("sample"), given.pop("variant"), given.pop("seed"), given.pop("settings"), **given).id


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"image_sha256": "b" * 64}, id="image"),
        pytest.param({"shared": {"dtype": "bfloat16", "batch": 1}}, id="dtype"),
        pytest.param({"shared": {"dtype": "float32", "batch": 2}}, id="batch"),
        pytest.param({"variant": Variant("alignvid", RECIPE, blur=2.0)}, id="blur"),
        pytest.param({"variant": Variant("alignvid", None)}, id="no recipe"),
        pytest.param({"variant": Variant("alignvid", replace(RECIPE, branch="cond"))}, id="recipe"),
        pytest.param({"sample": replace(sample_of(0), prompt="another one")}, id="prompt"),
        pytest.param({"sample": replace(sample_of(0), id="sample_9")}, id="sample"),
        pytest.param({"seed": 1}, id="seed"),
        pytest.param({"settings": replace(SETTINGS, guidance=2.0)}, id="guidance"),
        pytest.param({"settings": replace(SETTINGS, steps=11)}, id="steps"),
        pytest.param({"settings": replace(SETTINGS, fps=16.0)}, id="fps"),
        pytest.param({"model": {"weights": "w2"}}, id="model"),
    ],
)
def test_what_decides_a_video_gives_another_job(change):
    assert digest(**change) != digest()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"image": "images/b.png"}, id="where the image lies"),
        pytest.param({"variant": Variant("another name", RECIPE)}, id="the variant's name"),
        pytest.param({"variant": Variant("alignvid", RECIPE, blur=0.0)}, id="a blur of nothing"),
        pytest.param({"shared": {"dtype": "float32", "batch": 1, "fps": 9}}, id="what else is shared"),
        pytest.param({"sample": replace(sample_of(0), questions=sample_of(0).questions[:1])}, id="questions"),
    ],
)
def test_what_does_not_decide_a_video_gives_the_same_job(change):
    assert digest(**change) == digest()


def test_the_noise_is_that_of_sample_and_seed_whatever_the_variant():
    assert noise_seed("sample_0", 0) != noise_seed("sample_1", 0)
    assert noise_seed("sample_0", 0) != noise_seed("sample_0", 1)
    assert noise_seed("sample_1", 10) != noise_seed("sample_11", 0)
    given = [
        make_job(sample_of(0), variant, 0, SETTINGS, **{name: GIVEN[name] for name in list(GIVEN)[4:]})
        for variant in (Variant("baseline", None), Variant("alignvid", RECIPE))
    ]
    assert {job.noise_seed for job in given} == {noise_seed("sample_0", 0)}
