"""Models that make pictures, from the folder that a pipeline was saved to."""

import json
from pathlib import Path

import pytest
from PIL import Image

import model_folders

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SMALL = ("--prompt", "the cat puts on sunglasses", "--steps", "2", "--size", "64x64")


@pytest.fixture(scope="session")
def qwen_image(tmp_path_factory):
    return model_folders.save_qwen_image(tmp_path_factory.mktemp("models") / "qwen-image")


def test_an_editing_model_makes_a_picture_from_a_picture(alignvid, tmp_path):
    model = model_folders.save_flux_kontext(tmp_path / "kontext")
    out = tmp_path / "out"
    code, printed, _ = alignvid("generate", "--model", model, "--image", EXAMPLES / "scene-1.png", *SMALL, "--out", out)
    assert code == 0
    assert printed.splitlines()[0] == "acted in 1 of 2 forwards at 4 sites"  # the other one is beyond the window
    assert printed.splitlines()[-2:] == [str(out / "alignvid.png"), str(out / "record.json")]
    record = json.loads((out / "record.json").read_text())
    assert record["attachment"]["gains"].keys() == {"double.image", "double.text", "single.image", "single.text"}
    assert record["attachment"]["acted"] == 4  # one step, two blocks of each stack
    with Image.open(out / "alignvid.png") as made:
        assert made.size == (1024, 1024)  # whatever is asked for, this pipeline makes a megapixel
    assert record["outputs"]["alignvid"] | {"width": 1024, "height": 1024} == record["outputs"]["alignvid"]


def test_an_editing_model_whose_language_model_sees_the_picture_tells_it_from_the_prompt(alignvid, tmp_path):
    model = model_folders.save_qwen_image_edit(tmp_path / "edit")
    edit = ("generate", "--model", model, "--image", EXAMPLES / "scene-1.png", *SMALL, "--streams", "text")
    out = tmp_path / "out"
    code, printed, _ = alignvid(*edit, "--negative-prompt", "a dog", "--guidance", "3", "--out", out, "--compare")
    assert code == 0
    assert str(out / "alignvid.png") in printed
    record = json.loads((out / "record.json").read_text())
    assert record["attachment"]["gains"].keys() == {"double.text"}
    assert record["attachment"]["forwards"] == 2 * 2  # steps, passes
    with Image.open(out / "baseline.png") as baseline, Image.open(out / "alignvid.png") as made:
        assert baseline.tobytes() != made.tobytes()


def test_a_text_to_image_model_makes_a_picture_and_a_page_of_both(alignvid, qwen_image, tmp_path):
    code, _, _ = alignvid("generate", "--model", qwen_image, *SMALL, "--out", tmp_path, "--compare")
    assert code == 0
    with Image.open(tmp_path / "baseline.png") as baseline, Image.open(tmp_path / "alignvid.png") as made:
        assert baseline.size == made.size == (64, 64)
        assert baseline.tobytes() != made.tobytes()
    assert 'src="alignvid.png"' in (tmp_path / "index.html").read_text()


def test_guidance_of_qwen_image_is_its_true_guidance(alignvid, qwen_image, tmp_path):
    negative = ("--negative-prompt", "a dog", "--guidance", "3")
    code, _, told = alignvid("generate", "--model", qwen_image, *SMALL, *negative, "--out", tmp_path)
    assert code == 0
    assert "negative prompt has no effect" not in told
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["settings"]["guidance"] == 3.0
    assert record["attachment"]["forwards"] == 2 * 2  # steps, passes


def test_a_picture_for_a_model_without_one_is_refused(alignvid, qwen_image, tmp_path):
    picture = EXAMPLES / "scene-1.png"
    code, _, error = alignvid("generate", "--model", qwen_image, "--image", picture, *SMALL, "--out", tmp_path)
    assert code == 2
    assert "QwenImagePipeline takes no image" in error
