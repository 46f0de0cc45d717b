import json

import pytest

from alignvid.calibration import SOURCES
from alignvid.cli.calibrate import calibrate


def test_a_missing_option_is_one_sentence(alignvid):
    code, out, err = alignvid("calibrate", "--data", "scenes")
    assert (code, out) == (2, "")
    assert "Missing option '--out'" in err


BAD_INPUT = {
    "data missing": (["--data", "none.jsonl"], "is not there; give a JSON Lines file"),
    "tau too large": (["--tau", "2"], "tau is 2"),
    "foreground of another kind": (["--foreground", "masks"], "give it with --masks DIR"),
    "preset of another family": (["--preset", "framepack"], "is for the family framepack"),
    "preset that scales no keys": (["--preset", "low-pass.toml"], "acts on no block's keys"),
    "device missing": (["--device", "cuda:99"], "does not exist here"),
    "no name of a preset": (["--out", "preset"], "must end in .toml"),
}
LOW_PASS = """title = "t"
family = "*"
default = "a"
[readings.a]
provenance = "test"
recipe = { blocks = "all", steps = { unit = "none" }, modulation = { kind = "low-pass" } }
"""


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_sentence_and_leaves_no_preset(alignvid, tmp_path, monkeypatch, case):
    options, message = BAD_INPUT[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "low-pass.toml").write_text(LOW_PASS.replace('unit = "none"', 'unit = "fraction", start = 0, stop = 1'))
    code, out, err = alignvid("calibrate", "--data", "scenes", "--out", "p.toml", "--limit", "2", *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("alignvid: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "p.toml").exists()


@pytest.mark.filterwarnings("ignore")
def test_json_and_table_tell_the_same(alignvid, tmp_path):
    arguments = (
        "calibrate",
        "--data",
        "scenes",
        "--limit",
        "2",
        "--steps",
        "2",
        "--tau",
        "0",
        "--out",
        tmp_path / "p.toml",
    )
    code, table, _ = alignvid(*arguments)
    assert code == 0
    assert table.splitlines()[-1] == str(tmp_path / "p.toml")
    told = json.loads(alignvid(*arguments, "--json")[1])
    for row in told["blocks"]:
        assert f"{row['ratio']:.3f}" in table
    assert told["pairs"] == 2


def test_every_source_of_masks_can_be_chosen():
    (option,) = (parameter for parameter in calibrate.params if parameter.name == "foreground")
    assert tuple(option.type.choices) == SOURCES
