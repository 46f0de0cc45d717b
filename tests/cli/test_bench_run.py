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


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seeds", "a"], "--seeds 'a' are no numbers"),
        (["--seeds", "0,0"], "A seed is given twice"),
        (["--seeds", ""], "Invalid value for '--seeds': it is empty"),
        (["--size", "big"], "--size 'big' is none"),
        (["--size", "50x64"], "width 50 is not a multiple of 16"),
        (["--shard", "4/4"], "shard 4/4 does not exist"),
        (["--shard", "0/0"], "shard 0/0 does not exist; give a part of 1 or more"),
        (["--limit", "0"], "limit 0 leaves no sample"),
        (["--guidance", "-1"], "guidance -1.0 is out of range"),
        (["--batch", "100"], "batch 100 is out of range"),
        (["--variants", "nonsense"], "Variant 'nonsense': 'nonsense' is not a preset"),
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
