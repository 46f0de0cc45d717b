"""SAM 2: a real `Sam2Model`, tiny and random, saved and loaded as a released one is."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import Sam2Model

from alignvid.calibration.sam2 import Sam2, prepared
from alignvid.errors import InputError

SIDE = 128  # of the model's square, see conftest.py


@pytest.fixture(scope="module")
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 80, 3), dtype=np.uint8))


def test_a_mask_has_the_size_of_its_picture_and_repeats_itself(sam2_folder, image):
    mask = Sam2.load(str(sam2_folder), "cpu").mask_of(image)
    assert mask.shape == (48, 80) and mask.dtype == bool
    assert 0 < mask.mean() < 1
    assert np.array_equal(mask, Sam2.load(str(sam2_folder), "cpu").mask_of(image))


def test_the_most_trusted_mask_of_the_middle_is_taken(sam2_folder, image):
    model = Sam2Model.from_pretrained(sam2_folder).eval()
    with torch.no_grad():
        output = model(
            pixel_values=prepared(image, SIDE),
            input_points=torch.full((1, 1, 1, 2), SIDE / 2),
            input_labels=torch.ones(1, 1, 1, dtype=torch.int32),
            input_boxes=torch.tensor([[[0.05, 0.05, 0.95, 0.95]]]) * SIDE,
        )
    scores = output.iou_scores[0, 0]
    assert len(scores) == 3
    logits = F.interpolate(output.pred_masks[0, :, scores.argmax()][None], (48, 80), mode="bilinear")[0, 0]
    assert np.array_equal(Sam2.load(str(sam2_folder), "cpu").mask_of(image), logits.numpy() > 0)


def test_a_picture_is_stretched_and_normalised():
    colour = prepared(Image.new("RGB", (20, 10), (255, 0, 128)), 16)
    assert colour.shape == (1, 3, 16, 16)
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (128 / 255 - 0.406) / 0.225]
    assert colour[0, :, 3, 5].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"SAM 2 cannot be loaded from .* or another --foreground"):
        Sam2.load(str(tmp_path), "cpu")


def test_another_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(InputError, match=r"is a clip model, not SAM 2"):
        Sam2.load(str(tmp_path), "cpu")


def test_weights_that_are_cut_short_are_refused(sam2_folder, tmp_path):
    (tmp_path / "config.json").write_bytes((sam2_folder / "config.json").read_bytes())
    weights = (sam2_folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(InputError, match="SAM 2 cannot be loaded"):
        Sam2.load(str(tmp_path), "cpu")
