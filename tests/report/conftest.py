import shutil

import numpy as np
import pytest
from PIL import Image

import model_folders
from alignvid.generate import GenerationSpec, ObservationSpec, generate
from alignvid.report.attention import write_attention_page


@pytest.fixture(scope="session")
def observed_run(tmp_path_factory):
    """The folder of a real run with traces: a tiny Wan, compared, with a map of one word."""
    base = tmp_path_factory.mktemp("observed")
    Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(base / "cat.png")
    spec = GenerationSpec(
        model=str(model_folders.save_wan_i2v(base / "wan")),
        image=str(base / "cat.png"),
        prompt="the cat puts on <b>sunglasses</b>",
        width=32,
        height=32,
        frames=5,
        steps=2,
        guidance=1.0,
        fps=2.0,  # seconds of video, so that a browser has time to be seen playing
    )
    generate(spec, base / "out", compare=True, observation=ObservationSpec(words=("cat",)))
    return base / "out"


@pytest.fixture(scope="session")
def inspected_run(observed_run, tmp_path_factory):
    """A copy of it with its page."""
    folder = shutil.copytree(observed_run, tmp_path_factory.mktemp("inspected") / "run")
    write_attention_page(folder)
    return folder


@pytest.fixture
def run(observed_run, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(observed_run, tmp_path / "run")
