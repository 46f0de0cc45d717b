import numpy as np
import pytest
from PIL import Image

import model_folders
from alignvid.generate import GenerationSpec


@pytest.fixture(scope="session")
def wan_i2v_folder(tmp_path_factory):
    return model_folders.save_wan_i2v(tmp_path_factory.mktemp("models") / "wan-i2v")


@pytest.fixture(scope="session")
def wan_t2v_folder(tmp_path_factory):
    return model_folders.save_wan_t2v(tmp_path_factory.mktemp("models") / "wan-t2v")


@pytest.fixture(scope="session")
def unsupported_folder(tmp_path_factory):
    return model_folders.save_unsupported(tmp_path_factory.mktemp("models") / "unsupported")


@pytest.fixture(scope="session")
def picture(tmp_path_factory):
    """A landscape picture, so that cropping shows."""
    path = tmp_path_factory.mktemp("pictures") / "cat.png"
    y, x = np.mgrid[:40, :64]
    Image.fromarray(np.stack([x * 4, y * 6, x + y], -1).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def i2v_spec(wan_i2v_folder, picture):
    """The smallest generation: 32x32 pixels, 5 frames, 2 steps."""
    return GenerationSpec(
        model=str(wan_i2v_folder),
        image=str(picture),
        prompt="the cat puts on sunglasses",
        width=32,
        height=32,
        frames=5,
        steps=2,
    )
