import pytest
from PIL import Image

from alignvid.miniature import load_pipeline
from alignvid.miniature.drawing import FRAMES, HEIGHT, WIDTH, first_frame
from alignvid.miniature.prompts import evaluation_prompt
from alignvid.miniature.scenes import DEVELOPMENT, sample_scene

SEED = DEVELOPMENT[5]


@pytest.fixture(scope="session")
def miniature():
    return load_pipeline()


@pytest.fixture(scope="session")
def scene():
    return sample_scene(SEED, edit_kind="add")


@pytest.fixture(scope="session")
def picture(scene):
    return Image.fromarray(first_frame(scene))


@pytest.fixture
def inputs(scene, picture):
    """Of a call of the miniature in two steps, which follows no prompt."""
    size = {"height": HEIGHT, "width": WIDTH, "num_frames": FRAMES}
    steps = {"num_inference_steps": 2, "guidance_scale": 1.0}
    return {"prompt": evaluation_prompt(scene, SEED), "image": picture, **size, **steps}
