"""Sources of masks: which one is taken, what they give, what they refuse."""

import numpy as np
import pytest
from PIL import Image

from alignvid.calibration.foreground import choose_foreground, digest
from alignvid.calibration.grabcut import grabcut
from alignvid.calibration.pairs import read_pairs
from alignvid.errors import InputError, MissingExtra


@pytest.fixture
def pairs(data, tmp_path):
    return read_pairs(str(data / "jobs.jsonl"), {}, count=None, pictures=tmp_path)


@pytest.fixture
def scenes(tmp_path):
    return read_pairs("scenes:0-2", {}, count=None, pictures=tmp_path)


def choose(pairs, wanted="auto", masks=None, sam2=None):
    return choose_foreground(wanted, masks and str(masks), sam2, pairs, "cpu")


def test_automatic_choice_goes_masks_sam2_scenes_grabcut(pairs, scenes, data):
    assert choose(pairs, masks=data / "masks", sam2="some/model").source == "masks"
    assert choose(scenes, sam2="some/model").source == "sam2"
    assert choose(scenes).source == "scenes"
    assert choose(pairs).source == "grabcut"


def test_only_a_guess_is_said_aloud(pairs, scenes):
    assert "GrabCut" in choose(pairs).note and "--sam2" in choose(pairs).note
    assert choose(scenes).note is None


def test_masks_are_cropped_and_scaled_as_the_image_is(pairs, data):
    mask_of = choose(pairs, masks=data / "masks").mask_of
    whole = mask_of(pairs[1], Image.new("RGB", (64, 32)))
    assert whole.sum() == 16 * 20 and whole[8:24, 22:42].all()
    square = mask_of(pairs[1], Image.new("RGB", (16, 16)))  # the middle 32x32 pixels, at half the size
    assert square.shape == (16, 16) and square[4:12, 3:13].all() and square.sum() == 8 * 10


def test_a_changed_mask_changes_the_digest(pairs, data):
    before = digest(pairs, choose(pairs, masks=data / "masks"))
    mask = Image.open(data / "masks" / "pair-0.png")
    mask.putpixel((0, 0), 255)
    mask.save(data / "masks" / "pair-0.png")
    assert digest(pairs, choose(pairs, masks=data / "masks")) != before


BAD_MASKS = {
    "size": (lambda: Image.new("L", (32, 32), 255), "has 32x32 pixels, but its image has 64x32"),
    "dark": (lambda: Image.new("L", (64, 32), 1), "no foreground: its brightest pixel is 1; paint"),
    "transparent": (lambda: Image.new("RGBA", (64, 32)), "is transparent in places"),
}


@pytest.mark.parametrize("name", BAD_MASKS)
def test_a_bad_mask_is_refused(pairs, data, name):
    make, message = BAD_MASKS[name]
    make().save(data / "masks" / "pair-1.png")
    with pytest.raises(InputError, match=message):
        choose(pairs, masks=data / "masks")


def test_missing_masks_are_counted_and_the_first_is_named(pairs, data):
    for number in (1, 2):
        (data / "masks" / f"pair-{number}.png").unlink()
    with pytest.raises(InputError, match=r"2 of 3 masks are missing in .*, the first is pair-1\.png"):
        choose(pairs, masks=data / "masks")


def test_masks_without_a_folder_are_refused(pairs):
    with pytest.raises(InputError, match="give it with --masks DIR"):
        choose(pairs, "masks")


def test_exact_masks_are_for_scenes_only(pairs):
    with pytest.raises(InputError, match="Only the miniature's scenes have exact masks"):
        choose(pairs, "scenes")


def test_exact_masks_are_where_the_shapes_are(scenes):
    image = Image.open(scenes[0].spec.image)
    mask = choose(scenes).mask_of(scenes[0], image)
    pixels = np.asarray(image).astype(int)
    saturation = np.ptp(pixels, axis=2)  # shapes are colourful, backgrounds muted
    assert saturation[mask].min() > saturation[~mask].mean() + 50


def test_grabcut_finds_a_bright_object_and_repeats_itself(pairs):
    mask = grabcut(Image.open(pairs[1].spec.image))
    assert mask[9:23, 23:41].all() and mask.mean() < 0.3
    assert np.array_equal(mask, grabcut(Image.open(pairs[1].spec.image)))


def test_grabcut_without_opencv_names_the_line_to_type(pairs, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(MissingExtra, match=r'pip install "alignvid\[calibrate\]"'):
        choose(pairs)
