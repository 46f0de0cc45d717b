"""Presets: the numbers of the released code and of the paper, and the loader's errors."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from alignvid import presets
from alignvid.errors import RecipeError, UnknownPreset
from alignvid.presets.fingerprint import Fingerprint
from alignvid.schedule import StepWindow

# Written out one by one from the released behaviour, so that a slip in a range of the TOML shows.
WAN_BLOCKS = [0, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 25, 26, 27, 28, 29, 30, 31, 32, 37, 38]
F1_BLOCKS = [0, 1, 2, 3, 4, 5, 6, 7, 12, 13, 14, 15, 16, 18, 19, 20, 23, 25, 29, 32, 36, 37, 38, 39]
V1_BLOCKS = [0, 2, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 23, 25, 26, 27, 31, 33]

WAN_14B = Fingerprint("wan", {"blocks": 40}, heads=40, width=5120, image_keys=(1280,))
FRAMEPACK = Fingerprint("framepack", {"transformer_blocks": 20, "single_transformer_blocks": 40}, 24, 3072)


@pytest.mark.parametrize(
    ("name", "stack", "blocks"),
    [
        ("wan2.1-i2v-14b", "blocks", WAN_BLOCKS),
        ("framepack", "single_transformer_blocks", V1_BLOCKS),
        ("framepack-f1", "single_transformer_blocks", F1_BLOCKS),
    ],
)
@pytest.mark.parametrize("reading", ["released", "paper"])
def test_preset_has_the_published_blocks(name, stack, blocks, reading):
    recipe = presets.load(f"{name}:{reading}").recipe
    assert list(recipe.blocks.indices(stack, 40)) == blocks


def test_released_wan_squares_the_text_gain():
    modulation = presets.load("wan2.1-i2v-14b").recipe.modulation
    assert modulation.gain("cross.text") == pytest.approx(1.8225)
    assert modulation.gain("cross.image") == pytest.approx(1.35)


def test_paper_wan_scales_each_side_once():
    modulation = presets.load("wan2.1-i2v-14b:paper").recipe.modulation
    assert modulation.gain("cross.text") == modulation.gain("cross.image") == pytest.approx(1.35)


@pytest.mark.parametrize("name", ["wan2.1-i2v-14b", "framepack", "framepack-f1"])
def test_readings_differ_in_their_window_and_released_is_the_default(name):
    assert presets.load(name).name == f"{name}:released"
    precision = "bfloat16" if name.startswith("framepack") else "exact"
    assert presets.load(name).recipe.steps == StepWindow("noise", 0.9, 1.0, precision)
    assert presets.load(f"{name}:paper").recipe.steps == StepWindow.fraction(0.0, 0.3)


def test_the_miniatures_paper_reading_acts_early_and_in_the_calibrated_blocks_alone():
    recipe = presets.load("miniature:paper").recipe
    assert recipe.steps == StepWindow.fraction(0.0, 0.3)
    assert list(recipe.blocks.indices("blocks", 6)) == [1, 2, 4, 5]
    assert recipe.modulation.gain("cross.text") == pytest.approx(2.5)
    assert presets.load("miniature").name == "miniature:calibrated"


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_loads_says_its_provenance_and_round_trips(name):
    preset = presets.load(name)
    assert preset.name == name
    assert len(preset.provenance) > 40
    assert type(preset.recipe).from_dict(preset.recipe.to_dict()) == preset.recipe


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (replace(WAN_14B, checkpoint="Wan-AI/Wan2.1-I2V-14B-480P-Diffusers"), "wan2.1-i2v-14b:released"),
        (WAN_14B, "wan2.1-i2v-14b:released"),
        (replace(WAN_14B, image_keys=(1280, 1280)), "generic:generic"),
        (replace(WAN_14B, image_keys=()), "generic:generic"),
        (replace(WAN_14B, layers={"blocks": 40, "vace_blocks": 8}), "generic:generic"),
        (replace(WAN_14B, family="skyreels_v2"), "generic:generic"),
        (replace(WAN_14B, heads=None, width=None), "generic:generic"),
        (Fingerprint("wan", {"blocks": 6}, 4, 128, (64,)), "miniature:calibrated"),
        (replace(FRAMEPACK, checkpoint="lllyasviel/FramePackI2V_HY"), "framepack:released"),
        (FRAMEPACK, "framepack:released"),
        (replace(FRAMEPACK, checkpoint="lllyasviel/FramePack_F1_I2V_HY_20250503"), "framepack-f1:released"),
        (replace(FRAMEPACK, family="hunyuan_video"), "generic:generic"),
    ],
)
def test_preset_is_found_from_the_model(model, expected):
    assert presets.find(model).name == expected


def test_unknown_preset_names_the_choices():
    with pytest.raises(UnknownPreset, match=r"'wan' is not a preset; choose from .*wan2\.1-i2v-14b.*\.toml"):
        presets.load("wan")


def test_unknown_reading_names_the_choices():
    with pytest.raises(UnknownPreset, match=r"no reading 'v2'; choose from released, paper"):
        presets.load("framepack:v2")


PRESET_FILE = """
title = "Mine"
family = "wan"
default = "a"
[readings.a]
provenance = "by hand"
recipe = { blocks = "all", steps = { unit = "none" }, modulation = { gamma = 2.0, powers = { "cross.text" = 1.0 } } }
"""


def test_a_preset_file_is_loaded_by_path(tmp_path):
    (tmp_path / "mine.toml").write_text(PRESET_FILE)
    preset = presets.load(str(tmp_path / "mine.toml"))
    assert (preset.name, preset.recipe.gamma) == ("mine:a", 2.0)


def test_a_calibration_is_given_as_data_and_a_preset_without_one_has_none(tmp_path):
    table = '[calibration]\npairs = 50\n[[calibration.blocks]]\nstack = "blocks"\nblock = 0\nratio = 0.7\n'
    (tmp_path / "mine.toml").write_text(PRESET_FILE + table)
    blocks = [{"stack": "blocks", "block": 0, "ratio": 0.7}]
    assert presets.load(str(tmp_path / "mine.toml")).calibration == {"pairs": 50, "blocks": blocks}
    assert presets.load("generic").calibration == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"title = ", "not valid TOML"),
        (PRESET_FILE.replace("title", "titel").encode(), "has no field 'titel'; its fields are title, family"),
        (PRESET_FILE.replace('family = "wan"', "").encode(), "lacks the field 'family'"),
        (PRESET_FILE.replace("gamma", "gama").encode(), "no field 'gama'"),
        (
            PRESET_FILE.replace('provenance = "by hand"', "").encode(),
            "the field 'readings.a' lacks the field 'provenance'; its fields are provenance, recipe",
        ),
        (b"\xff\xfe\x00", "cannot be read"),
        (PRESET_FILE.encode() + b"[match]\nlayer = 3\n", "'match' has no field 'layer'; its fields are layers, heads"),
        (b"readings = 1\n" + PRESET_FILE.split("[readings.a]")[0].encode(), "the field 'readings' is 1; it must be"),
        (
            PRESET_FILE.replace("2.0", "0x" + "f" * 5000).encode(),
            "'mine:a': .*'gamma' is a number without end",
        ),
        (b"a = " + b"[" * 5000, "not valid TOML"),
        (b"calibration = 3\n" + PRESET_FILE.encode(), "the field 'calibration' is 3; it must be an object"),
    ],
    ids=[
        "truncated",
        "unknown field",
        "missing field",
        "unknown recipe field",
        "no provenance",
        "not UTF-8",
        "unknown field of a match",
        "readings are a number",
        "endless number",
        "deep",
        "no table",
    ],
)
def test_damaged_preset_files_are_refused(tmp_path, content, message):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises((RecipeError, ValueError), match=message):
        presets.load(str(path))


def test_missing_preset_file_is_named(tmp_path):
    with pytest.raises(UnknownPreset, match="does not exist; built-in presets are"):
        presets.load(str(tmp_path / "none.toml"))


@pytest.mark.timeout(10)
def test_a_preset_that_is_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "mine.toml")
    with pytest.raises(RecipeError, match="it is a pipe"):
        presets.load(str(tmp_path / "mine.toml"))
