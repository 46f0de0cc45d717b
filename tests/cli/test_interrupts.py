"""Real commands in processes of their own, and a real Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import model_folders

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a signal that stands for Ctrl-C")
PICTURE = Path(__file__).parent.parent.parent / "examples" / "scene-1.png"
SMALL = ("--size", "32x32", "--frames", "5")
LONG = ("--steps", "1000")


SLOW = pytest.mark.slow  # each starts the command in a process of its own
EARLY = ("model ", "loading the model")


@pytest.fixture(scope="session")
def wan(tmp_path_factory):
    return model_folders.save_wan_i2v(tmp_path_factory.mktemp("models") / "wan")


def interrupted(*arguments, when):
    """Exit code, stdout and stderr of a command that gets a Ctrl-C at the first line of stderr that fits."""

    def hear_ctrl_c():  # a parent in the background passes on "ignore"
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    command = [sys.executable, "-m", "alignvid", *(str(argument) for argument in arguments)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "preexec_fn": hear_ctrl_c}
    with subprocess.Popen(command, **options) as process:
        lines = []
        while True:
            lines.append(process.stderr.readline())
            assert lines[-1], f"it ended before: {lines}"
            if when(lines[-1]):
                break
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    return process.returncode, out, "".join(lines) + err


def one(model, out, *more):
    return ("generate", "--model", model, "--image", PICTURE, "--prompt", "the cat", *SMALL, *LONG, "--out", out, *more)


@SLOW
@pytest.mark.parametrize("moment", [*EARLY, "with AlignVid: "])
def test_ctrl_c_in_generate_is_one_line_and_takes_the_new_folder_away(wan, tmp_path, moment):
    out = tmp_path / "new" / "out"
    code, said, err = interrupted(*one(wan, out), when=lambda line: line.startswith(moment))
    assert (code, said) == (130, "")
    assert err.endswith("\nalignvid: Interrupted; nothing unfinished was kept.\n")
    assert err.count("Interrupted") == 1 and "Traceback" not in err
    assert not (tmp_path / "new").exists()


@SLOW
def test_ctrl_c_in_a_loop_keeps_its_attempts_and_the_same_line_makes_the_rest(tmp_path):
    prompt = ("--image", PICTURE, "--prompt", "add a green circle at the top left", "--steps", "1", "--gamma", "0.12")
    line = ("generate", *prompt, "--out", tmp_path, "--until-followed", "--judge", "rule")
    code, _, err = interrupted(*line, "--budget", "900", when=lambda line: line.startswith("attempt 2"))
    assert code == 130 and "what was finished is kept, and the same line makes the rest" in err
    made = [json.loads(row)["number"] for row in (tmp_path / "judged.jsonl").read_text().splitlines()]
    again = subprocess.run(
        [sys.executable, "-m", "alignvid", *map(str, line), "--budget", str(len(made) + 1)],
        capture_output=True,
        text=True,
    )
    assert again.returncode == 3 and again.stderr.count("(was there)") == len(made) >= 2


@SLOW
def test_ctrl_c_in_generate_leaves_what_was_there(wan, tmp_path):
    (tmp_path / "alignvid.mp4").write_bytes(b"old")
    code, _, _ = interrupted(*one(wan, tmp_path), when=lambda line: line.startswith("with AlignVid: "))
    assert code == 130
    assert [path.name for path in tmp_path.iterdir()] == ["alignvid.mp4"]
    assert (tmp_path / "alignvid.mp4").read_bytes() == b"old"


@SLOW
def test_an_empty_folder_that_was_there_stays(wan, tmp_path):
    interrupted(*one(wan, tmp_path / "out"), when=lambda line: line.startswith("loading"))
    (tmp_path / "out").mkdir()
    interrupted(*one(wan, tmp_path / "out"), when=lambda line: line.startswith("loading"))
    assert list(tmp_path.iterdir()) == [tmp_path / "out"] and not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_after_ctrl_c_in_jobs_finished_ones_are_there_and_are_not_made_again(wan, tmp_path):
    jobs, out = tmp_path / "jobs.jsonl", tmp_path / "out"
    lines = [{"id": f"job-{index}", "image": str(PICTURE), "prompt": "the cat"} for index in range(60)]
    lines.insert(1, {"id": "bad", "image": "no.png", "prompt": "the cat"})  # it is said when the first one is there
    jobs.write_text("\n".join(json.dumps(line) for line in lines))
    command = ("generate", "--model", wan, *SMALL, "--steps", "2", "--jobs", jobs, "--out", out)
    code, said, err = interrupted(*command, when=lambda line: line.startswith("bad: "))
    assert (code, said) == (130, "")
    assert "Interrupted" in err.splitlines()[-1] and "Traceback" not in err
    folders = sorted(path.name for path in out.iterdir())
    assert 0 < len(folders) < 60
    assert all((out / name / "record.json").is_file() for name in folders)
    assert not list(out.glob("**/*.part"))


@SLOW
def test_after_ctrl_c_in_a_benchmark_finished_records_are_there(tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "alignvid", "bench", "run", "--data", "omitshapes", "--limit", "60"]
    command += ["--steps", "2", "--frames", "5", "--out", str(run)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        while not list(run.glob("videos/*.json")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said, err = process.communicate(timeout=120)
    assert (process.returncode, said) == (130, "")
    assert "Interrupted" in err.splitlines()[-1] and "Traceback" not in err
    rows = [json.loads(path.read_text()) for path in run.glob("videos/*.json")]
    assert rows and all(row["status"] == "done" for row in rows)
    assert not list(run.glob("**/*.part"))
