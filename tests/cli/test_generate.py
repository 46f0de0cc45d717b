import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import model_folders
from full_disk import file_size_limit

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SMALL = ("--steps", "2", "--width", "32", "--height", "32", "--frames", "5")


@pytest.fixture(scope="session")
def unsupported(tmp_path_factory):
    return model_folders.save_unsupported(tmp_path_factory.mktemp("models") / "unsupported")


@pytest.fixture(scope="session")
def wan(tmp_path_factory):
    return model_folders.save_wan_i2v(tmp_path_factory.mktemp("models") / "wan")


def small(wan, out, *more):
    picture = EXAMPLES / "scene-1.png"
    return ("generate", "--model", wan, "--image", picture, "--prompt", "the cat", *SMALL, "--out", out, *more)


def test_paths_of_the_results_go_to_stdout(alignvid, wan, tmp_path):
    code, out, _ = alignvid(*small(wan, tmp_path))
    assert code == 0
    assert out.splitlines() == [str(tmp_path / "alignvid.mp4"), str(tmp_path / "record.json")]


def test_json_prints_the_record(alignvid, wan, tmp_path):
    _, out, _ = alignvid(*small(wan, tmp_path, "--json"))
    assert json.loads(out) == json.loads((tmp_path / "record.json").read_text())


def test_compare_writes_a_page_of_all_three(alignvid, wan, tmp_path):
    _, out, _ = alignvid(*small(wan, tmp_path, "--compare"))
    assert f"Open {tmp_path / 'index.html'}" in out
    page = (tmp_path / "index.html").read_text()
    for name in ("reference.png", "baseline.mp4", "alignvid.mp4", "side_by_side.mp4"):
        assert (
            f'{"href" if name == "side_by_side.mp4" else "src"}="{name}"' in page
        )  # both halves in one are a download


def test_options_reach_the_recipe(alignvid, wan, tmp_path):
    options = (
        "--gamma",
        "1.5",
        "--blocks",
        "0,2",
        "--steps-window",
        "0.0-0.5",
        "--streams",
        "text",
        "--branch",
        "cond",
    )
    _, out, _ = alignvid(*small(wan, tmp_path, "--json", *options))
    recipe = json.loads(out)["recipe"]
    assert recipe["modulation"] == {"kind": "scalar", "gamma": 1.5, "powers": {"cross.text": 1.0}}
    assert (recipe["blocks"], recipe["branch"]) == ("0,2", "cond")
    assert recipe["steps"] == {"unit": "fraction", "start": 0.0, "stop": 0.5}


def test_a_record_is_repeated(alignvid, wan, tmp_path):
    alignvid(*small(wan, tmp_path / "a"))
    code, _, _ = alignvid("generate", "--record", tmp_path / "a" / "record.json", "--out", tmp_path / "b")
    assert code == 0
    assert (tmp_path / "a" / "alignvid.mp4").read_bytes() == (tmp_path / "b" / "alignvid.mp4").read_bytes()


def test_jobs_make_one_page_and_a_failure_is_told(alignvid, wan, tmp_path):
    jobs = tmp_path / "jobs.jsonl"
    lines = [{"id": "good", "image": str(EXAMPLES / "scene-1.png"), "prompt": "<script>the cat</script>"}]
    lines += [{"id": "bad", "image": "no.png", "prompt": "the cat"}]
    jobs.write_text("\n".join(json.dumps(line) for line in lines))
    code, out, err = alignvid("generate", "--model", wan, *SMALL, "--jobs", jobs, "--out", tmp_path / "out")
    assert code == 1
    assert "1 of 2 jobs finished" in out
    assert err.startswith("bad: Image ")
    page = (tmp_path / "out" / "index.html").read_text()
    assert 'src="good/alignvid.mp4"' in page
    assert "no.png" in page
    assert "<script>the cat" not in page


BAD_INPUT = {
    "image missing": (["--image", "no.png"], "does not exist"),
    "image is a folder": (["--image", "."], "is a folder"),
    "image too large": (["--max-pixels", "100"], "the limit is 0.0001"),
    "prompt empty": (["--prompt", ""], "is empty"),
    "prompt too long": (["--prompt", "word " * 10_000], "has 10,000 words"),
    "prompt not UTF-8": (["--prompt", "a \udcff"], "not valid UTF-8"),
    "prompt only emoji": (["--prompt", "🐱"], "has no words"),
    "gamma zero": (["--gamma", "0"], "finite positive"),
    "gamma negative": (["--gamma", "-1"], "finite positive"),
    "gamma NaN": (["--gamma", "nan"], "'nan' is no finite number"),
    "gamma infinite": (["--gamma", "inf"], "'inf' is no finite number"),
    "window without a step": (["--steps-window", "0.5-0.5"], "contains no step"),
    "window unreadable": (["--steps-window", "early"], "not a step window"),
    "block missing": (["--blocks", "99"], "Block 99"),
    "stack missing": (["--blocks", "single=all"], "is not a stack"),
    "preset unknown": (["--preset", "best"], "is not a preset"),
    "preset file missing": (["--preset", "mine.toml"], "does not exist"),
    "preset of another family": (["--preset", "framepack"], "is for the family framepack"),
    "model unknown": (["--model", "wan"], "is not there"),
    "folder that is no pipeline": (["--model", "."], "is no diffusers pipeline"),
    "stream unknown": (["--streams", "history"], "is not a stream"),
    "device missing": (["--device", "cuda:99"], "does not exist here"),
    "offload on a CPU": (["--device", "cpu", "--offload", "model"], "needs a CUDA device"),
    "size impossible": (["--width", "100", "--height", "100"], "not a multiple of 16"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_sentence_and_leaves_nothing(alignvid, tmp_path, monkeypatch, case):
    options, message = BAD_INPUT[case]
    monkeypatch.chdir(tmp_path)
    picture = EXAMPLES / "scene-1.png"
    arguments = ["generate", "--image", picture, "--prompt", "add a green circle", "--out", "out", *options]
    code, out, err = alignvid(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("alignvid: ")
    assert err.count("\n") == 1
    assert not Path("out").exists() or not list(Path("out").iterdir())


def test_an_unsupported_model_is_refused_with_the_nearest_supported_ones(alignvid, unsupported, tmp_path):
    code, _, err = alignvid("generate", "--model", unsupported, "--prompt", "a cat", "--out", tmp_path / "out")
    assert code == 2
    assert "StableDiffusionPipeline" in err
    assert "StableDiffusion3Pipeline" in err


def test_an_output_folder_that_cannot_be_written_is_refused(alignvid, wan, tmp_path):
    (tmp_path / "file").write_bytes(b"kept")
    code, _, err = alignvid(*small(wan, tmp_path / "file"))
    assert code == 2
    assert "Cannot write into" in err
    assert (tmp_path / "file").read_bytes() == b"kept"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux has a folder that nobody may write into")
def test_a_read_only_output_folder_is_refused(alignvid, wan):
    code, _, err = alignvid(*small(wan, "/proc/out"))
    assert code == 2
    assert "Cannot write into" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--jobs", "a.jsonl", "--prompt", "x"], "--prompt belongs into the lines of the jobs file"),
        (["--jobs", "a.jsonl", "--record", "b"], "exclude each other"),
        ([], "--prompt is missing"),
        (["--jobs", "no.jsonl"], "cannot be read"),
        (["--record", "no.json"], "cannot be read as a record"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_together_are_refused(alignvid, tmp_path, options, message):
    code, _, err = alignvid("generate", "--out", tmp_path / "out", *options)
    assert code == 2
    assert message in err


def run_program(*arguments, **more):
    command = [sys.executable, "-m", "alignvid", *(str(argument) for argument in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def test_warnings_are_lines_on_stderr_and_nothing_else_is(tmp_path):
    picture, prompt = EXAMPLES / "scene-1.png", "add a zeppelin at the top left"
    arguments = ("--image", picture, "--prompt", prompt, "--gamma", "100", "--steps", "2", "--out", tmp_path)
    with run_program("generate", *arguments) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert out.splitlines()[-1] == str(tmp_path / "record.json")
    assert [line.split(":")[0] for line in err.splitlines()] == ["warning", "warning"]
    assert "does not know 'zeppelin'" in err
    assert "gamma 100" in err


@pytest.mark.skipif(os.name != "posix", reason="needs a signal that stands for Ctrl-C")
def test_ctrl_c_is_one_line_and_leaves_what_was_there(wan, tmp_path):
    (tmp_path / "alignvid.mp4").write_bytes(b"old")

    def hear_ctrl_c():  # a parent in the background passes on "ignore"
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with run_program(*small(wan, tmp_path / "out", "--steps", "1000"), preexec_fn=hear_ctrl_c) as process:
        while not (tmp_path / "out").exists():
            time.sleep(0.05)
        time.sleep(1)  # the folder is made just before the model runs, for seconds
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.strip() == "alignvid: Interrupted; nothing unfinished was kept."
    assert not list((tmp_path / "out").iterdir())


def test_a_damaged_picture_is_refused(alignvid, tmp_path):
    data = (EXAMPLES / "scene-1.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    code, out, err = alignvid("generate", "--image", tmp_path / "a.png", "--prompt", "x", "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert "damaged or cut short" in err
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_is_one_sentence_and_leaves_nothing(alignvid, wan, tmp_path):
    tmp_path = tmp_path / "out"
    with file_size_limit(4096):  # less than the page, more than the clips
        code, out, err = alignvid(*small(wan, tmp_path, "--compare"))
    assert (code, out) == (2, "")
    assert "nothing there was changed" in err
    assert not list(tmp_path.iterdir())


def test_observe_saves_traces_and_prints_their_paths(alignvid, wan, tmp_path):
    code, out, _ = alignvid(*small(wan, tmp_path, "--compare", "--observe", "--words", "cat", "--observe-blocks", "0"))
    assert code == 0
    assert {str(tmp_path / "baseline.trace"), str(tmp_path / "alignvid.trace")} <= set(out.splitlines())
    assert json.loads((tmp_path / "record.json").read_text())["traces"]["alignvid"]["words"] == ["cat"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", "x", "--words", "cat"], "--words says what to observe; add --observe"),
        (["--prompt", "x", "--observe-steps", "all"], "--observe-steps says what to observe; add --observe"),
        (["--jobs", "a.jsonl", "--observe"], "--observe watches a single generation; leave out --jobs"),
        (["--prompt", "add a red circle", "--observe", "--words", ","], "names no word"),
        (["--prompt", "add a red circle", "--observe", "--observe-blocks", "some"], "some"),
    ],
    ids=str,
)
def test_observing_that_cannot_be_is_refused(alignvid, tmp_path, options, message):
    code, _, err = alignvid("generate", "--out", tmp_path / "out", *options)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
