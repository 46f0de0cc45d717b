import json

import pytest

from alignvid.files import held
from metric_models import moving_square, save_run


@pytest.fixture
def run(tmp_path):
    return save_run(tmp_path / "run", {"a": moving_square(5), "b": moving_square(4, step=0)}).path


def test_values_are_counted_in_a_table(alignvid, run):
    code, out, err = alignvid("bench", "measure", run, "--metrics", "temporal_flickering, dynamic_degree_dis")
    assert code == 0
    assert out.splitlines() == [
        "metric (vbench)      measured  failed",
        "temporal_flickering  2         0",
        "dynamic_degree_dis   2         0",
    ]
    assert err == ""


def test_counts_as_json(alignvid, run):
    _, out, _ = alignvid("bench", "measure", run, "--metrics", "temporal_flickering", "--protocol", "native", "--json")
    assert json.loads(out) == {
        "protocol": "native",
        "videos": 2,
        "without_video": 0,
        "counts": [{"metric": "temporal_flickering", "measured": 2, "failed": 0, "error": None}],
    }


def test_a_metric_that_cannot_run_says_what_it_needs_and_the_exit_code_tells(alignvid, run):
    names = "aesthetic_quality,temporal_flickering"
    code, out, err = alignvid("bench", "measure", run, "--metrics", names, "--weights", "clip-vit-l-14=nowhere")
    assert code == 1
    assert "temporal_flickering  2         0" in out
    assert err.startswith(
        "aesthetic_quality cannot run: Needs OpenAI's CLIP ViT-L/14: 'nowhere' does not exist; give its path"
    )
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metrics", "beauty"], "Metric 'beauty' does not exist; choose from"),
        (["--metrics", ","], "No metric was named; choose from"),
        (["--metrics", "temporal_flickering", "--weights", "raft"], "--weights 'raft' is not NAME=PATH"),
        (
            ["--metrics", "temporal_flickering", "--weights", "raft=x"],
            "'raft' is not among the weights of these metrics",
        ),
        (
            ["--metrics", "dynamic_degree", "--weights", "raft=x", "--weights", "raft=y"],
            "--weights raft is given twice",
        ),
        (["--metrics", "temporal_flickering", "--ratio", "wide"], "--ratio 'wide' is not W:H"),
        (["--metrics", "temporal_flickering", "--ratio", "16:9"], "A ratio goes with the protocol released"),
        (["--metrics", "temporal_flickering", "--device", "abacus"], "Device 'abacus' does not exist here"),
        (["--metrics", "temporal_flickering", "--protocol", "mine"], "'mine' is not one of"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence_and_exit_code_2(alignvid, run, arguments, message):
    code, out, err = alignvid("bench", "measure", run, *arguments)
    assert code == 2
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (run / "metrics.jsonl").exists()


def test_a_folder_without_a_run_is_refused(alignvid, tmp_path):
    code, _, err = alignvid("bench", "measure", tmp_path, "--metrics", "temporal_flickering")
    assert code == 2
    assert "holds no run" in err


def test_a_run_without_videos_is_one_sentence(alignvid, run):
    for file in (run / "videos").iterdir():
        file.unlink()
    code, out, err = alignvid("bench", "measure", run, "--metrics", "temporal_flickering")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "has no videos yet; type the line of `alignvid bench run` again" in err


def test_a_run_that_is_being_measured_is_left_alone(alignvid, run):
    with held(run / ".measuring.lock", busy=""):
        code, _, err = alignvid("bench", "measure", run, "--metrics", "temporal_flickering")
    assert (code, err.count("\n")) == (2, 1)
    assert "is being measured by another process; wait until it ends" in err
