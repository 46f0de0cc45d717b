import os
import subprocess
import sys

import click
import pytest

from alignvid.cli.main import cli
from alignvid.cli.values import Given, GivenRange

MODULE = [sys.executable, "-m", "alignvid"]


def params(command=cli, path=""):
    for param in command.params:
        yield pytest.param(param, id=f"{path} {param.name}")
    for name, below in command.commands.items() if isinstance(command, click.Group) else ():
        yield from params(below, f"{path} {name}")


@pytest.mark.parametrize("param", list(params()))
def test_no_text_path_or_number_may_say_nothing(param):
    assert param.type not in (click.STRING, click.FLOAT)
    assert not isinstance(param.type, click.Path)
    assert not isinstance(param.type, click.FloatRange) or isinstance(param.type, GivenRange)


REFUSED = {
    "empty folder": (("bench", "run", "--data", "omitshapes", "--out", ""), "'--out': it is empty; give a value"),
    "blank device": (("generate", "--prompt", "x", "--out", "o", "--device", " "), "'--device': it is empty"),
    "empty argument": (("bench", "score", ""), "'RUN': it is empty"),
    "empty settings": (("bench", "score", "run", "--settings", ""), "'--settings': it is empty"),
    "endless gamma": (("generate", "--prompt", "x", "--out", "o", "--gamma", "inf"), "'inf' is no finite number"),
    "tau is none": (("calibrate", "--data", "scenes", "--out", "o.toml", "--tau", "nan"), "'nan' is no finite number"),
    "endless timeout": (("bench", "judge", "run", "--judge", "rule", "--timeout", "inf"), "'inf' is no finite number"),
    "endless margin": (("bench", "score", "run", "--margin", "a=inf"), "'a=inf' is no margin"),
    "margin is none": (("bench", "score", "run", "--margin", "a=nan"), "'a=nan' is no margin"),
    "negative margin": (("bench", "score", "run", "--margin", "a=-1"), "with a loss of 0 or more"),
    "negative seed": (("bench", "audit", "run", "--seed", "-1"), "-1 is not in the range"),
    "home of nobody": (("bench", "score", "~nobody-here/run"), "begins with the home of a user who is not here"),
    "data of nobody": (("bench", "run", "--data", "~nobody-here/d", "--out", "o"), "home of a user who is not here"),
    "preset of nobody": (("inspect", "--preset", "~nobody-here/a.toml"), "home of a user who is not here"),
    "two formats": (("bench", "score", "run", "--json", "--csv"), "--json and --csv exclude each other"),
    "endless shard": (("bench", "run", "--data", "omitshapes", "--out", "o", "--shard", "9" * 5000 + "/1"), "--shard"),
    "endless ratio": (("bench", "measure", "run", "--metrics", "a", "--ratio", "9" * 5000 + ":1"), "is not W:H"),
    "endless preset": (("inspect", "--preset", "x" * 5000), "is not a preset"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_says_nothing_is_refused_in_a_sentence(alignvid, tmp_path, monkeypatch, case):
    arguments, message = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    code, out, err = alignvid(*arguments)
    assert (code, out) == (2, "")
    assert message in err and err.startswith("alignvid: ") and err.count("\n") == 1
    assert not os.listdir(tmp_path)


def test_a_path_may_begin_with_the_user_s_home(alignvid, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    _, _, err = alignvid("bench", "score", "~/run")
    assert f"'{tmp_path}/run' holds no run" in err


def test_an_empty_negative_prompt_is_one():
    option = next(param for param in cli.commands["generate"].params if param.name == "negative_prompt")
    assert isinstance(option.type, Given) and option.type.convert("", option, None) == ""


def said(*, stdout):
    """What is said on stderr, and the exit code, where stdout is something else than a file or a terminal."""
    return subprocess.run([*MODULE, "presets", "--json"], stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=200)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is always full")
def test_a_full_stdout_is_one_sentence_and_exit_2():
    with open("/dev/full", "wb") as full:
        done = said(stdout=full)
    assert done.returncode == 2
    assert done.stderr == "alignvid: The result cannot be printed: No space left on device; what was made is kept.\n"


def test_a_reader_that_went_away_ends_the_command_without_a_word():
    reading, writing = os.pipe()
    os.close(reading)
    done = said(stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_closed_stdout_is_refused_before_anything_is_done(tmp_path):
    command = f'exec "{sys.executable}" -m alignvid demo --out "{tmp_path / "demo"}" >&-'
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, timeout=200)
    assert done.returncode == 2
    assert done.stderr.startswith("alignvid: Standard output is closed; let it lead somewhere")
    assert not os.listdir(tmp_path)


def test_a_closed_stderr_keeps_nothing_from_running():
    command = f'exec "{sys.executable}" -m alignvid presets 2>&-'
    done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, text=True, timeout=200)
    assert done.returncode == 0 and "generic" in done.stdout


def test_a_terminal_that_knows_ascii_alone_gets_escapes(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [*MODULE, "bench", "score", str(tmp_path / "γ")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "\\u03b3" in done.stderr
