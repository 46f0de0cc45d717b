import json

import numpy as np
import pytest
from PIL import Image

import model_folders

SMALL = {"width": 128, "height": 64, "frames": 5, "steps": 2, "gamma": 1.5}


@pytest.fixture(scope="session")
def wan(tmp_path_factory):
    """The folder of a tiny Wan image-to-video pipeline."""
    return model_folders.save_wan_i2v(tmp_path_factory.mktemp("models") / "wan")


@pytest.fixture
def fields(wan):
    """A small generation: 128x64 pixels, 5 frames, 2 steps, on the tiny pipeline."""
    return {"model": str(wan), **SMALL}


@pytest.fixture
def data(tmp_path):
    """Three pairs with masks: a bright object in grey, each at another place, in pictures of 64x32 pixels."""
    folder = tmp_path / "data"
    (folder / "masks").mkdir(parents=True)
    rows = []
    for number, left in enumerate((10, 22, 34)):
        pixels, mask = np.full((32, 64, 3), 120, np.uint8), np.zeros((32, 64), np.uint8)
        pixels[8:24, left : left + 20], mask[8:24, left : left + 20] = (230, 40, 30), 255
        Image.fromarray(pixels).save(folder / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"pair-{number}.png")
        rows.append({"id": f"pair-{number}", "image": f"{number}.png", "prompt": "the red circle disappears"})
    (folder / "jobs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder
