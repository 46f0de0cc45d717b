import json

import pytest

from bench_stub import write_data


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    write_data(folder / "data", 1)
    return folder / "run"


def bench_run(alignvid, out, *more):
    return alignvid("bench", "run", "--data", out.parent / "data", "--steps", 2, "--out", out, *more)


def test_a_run_on_the_miniature_makes_a_video_per_variant(alignvid, out):
    code, text, err = bench_run(alignvid, out, "--variants", "baseline,strong: gamma=2.5")

    assert code == 0
    assert text.startswith("2 videos made, 0 were there, 0 failed, of 2 planned; 0 samples cannot be used\n")
    assert err == ""  # no bar without a terminal
    assert len(list((out / "videos").glob("*.mp4"))) == 2


def test_the_same_line_again_says_that_all_is_there(alignvid, out):
    code, text, _ = bench_run(alignvid, out, "--variants", "baseline,strong: gamma=2.5", "--json")

    assert code == 0
    assert {"planned": 2, "done_before": 2, "made": 0}.items() <= json.loads(text).items()


def test_a_gain_that_is_warned_of_fails_its_video_where_strict(alignvid, out):
    code, text, err = bench_run(alignvid, out.with_name("strict"), "--variants", "baseline,much: gamma=20", "--strict")

    assert code == 1
    assert text.startswith("1 videos made, 0 were there, 1 failed, of 2 planned; 0 samples cannot be used\n")
    assert "ContractError: gamma 20 multiplies attention logits by up to" in err


def test_a_malformed_row_costs_itself_alone_and_is_said(alignvid, tmp_path):
    write_data(tmp_path / "data", 1)
    meta = tmp_path / "data" / "meta.json"
    meta.write_text(json.dumps([*json.loads(meta.read_text()), {"id": "bad"}, 7]))
    command = ("bench", "run", "--data", tmp_path / "data", "--steps", 1, "--variants", "baseline")
    code, out, err = alignvid(*command, "--out", tmp_path / "run")
    assert code == 1
    assert "1 videos made" in out and "2 samples cannot be used" in out
    first, second = err.splitlines()
    assert first.startswith("unusable: row 2: ") and "(id 'bad'): the fields 'image-path', 'prompt'" in first
    assert second.startswith("unusable: row 3: ")
    unusable = json.loads((tmp_path / "run" / "run.json").read_text())["data"]["unusable"]
    assert [row["sample"] for row in unusable] == ["row 2", "row 3"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seed", "a"], "--seed 'a' is no number"),
        (["--seed", "0,0"], "A seed is given twice"),
        (["--seed", ""], "Invalid value for '--seed': it is empty"),
        (["--size", "big"], "'--size': 'big' is none; write for example 832x480"),
        (["--size", "50x64"], "width 50 is not a multiple of 16"),
        (["--shard", "4/4"], "shard 4/4 does not exist"),
        (["--shard", "0/0"], "shard 0/0 does not exist; give a part of 1 or more"),
        (["--limit", "0"], "'--limit': 0 is not in the range"),
        (["--guidance", "-1"], "guidance -1.0 is out of range"),
        (["--batch", "100"], "batch 100 is out of range"),
        (["--variants", "nonsense"], "Variant 'nonsense': 'nonsense' is not a preset"),
        (
            ["--variants", "x: gamma=2 & kind=nonsense"],
            "Variant 'x: gamma=2 & kind=nonsense': The modulation kind 'nonsense'",
        ),
        (["--data", "nowhere"], "Data set 'nowhere' is not there"),
        (["--model", "nowhere"], "Model 'nowhere' is not there"),
    ],
    ids=str,
)
def test_a_mistake_is_one_sentence_and_leaves_no_folder(alignvid, tmp_path, more, message):
    code, text, err = alignvid("bench", "run", "--data", tmp_path, "--out", tmp_path / "run", *more)

    assert (code, text) == (2, "")
    assert err.startswith("alignvid: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "run").exists()
