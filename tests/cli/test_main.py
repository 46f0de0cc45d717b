import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alignvid.cli.following import NOT_FOLLOWED
from alignvid.cli.main import cli
from alignvid.errors import InputError

ROOT = Path(__file__).parent.parent.parent
COMMANDS = sorted(cli.commands)


def examples_of(text: str) -> list[str]:
    return re.findall(r"^ +(alignvid .*)$", text, re.MULTILINE)


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_shows_two_examples_or_three(alignvid, command):
    code, out, _ = alignvid(*([command] if command else []), "--help")
    assert code == 0
    assert len(examples_of(out)) in (2, 3)


ENDLESS = "app"
"""It answers until Ctrl-C; tests/cli/test_app.py runs it."""
EXAMPLES = sorted(
    {
        line
        for command in (cli, *cli.commands.values())
        for line in examples_of(command.epilog)
        if line.split()[1] != ENDLESS
    }
)

LONG = ("calibrate", "demo", "generate", "inspect")
"""Commands that make clips, of which other tests make many."""


@pytest.mark.filterwarnings("ignore:.*pairs are few", "ignore:The foreground is guessed", "ignore:Every block has")
@pytest.mark.parametrize(
    "example",
    [pytest.param(line, marks=pytest.mark.slow) if line.split()[1] in LONG else line for line in EXAMPLES],
)
def test_every_example_in_the_help_works(alignvid, tmp_path, monkeypatch, example):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("alignvid.demo.SCENE_COUNT", 1)
    if "--run" in example:
        scene = ("--prompt", "add a red circle", "--image", "examples/scene-1.png", "--steps", 2)
        alignvid("generate", *scene, "--observe", "--out", "out")
    code, out, _ = alignvid(*shlex.split(example)[1:])
    assert code in ((0, NOT_FOLLOWED) if "--until-followed" in example else (0,))
    assert out


def test_help_is_quick_and_loads_neither_torch_nor_diffusers():
    program = (
        "import sys; from alignvid.cli import main\n"
        "try: main(['--help'])\n"
        "finally: assert not {'torch', 'diffusers', 'transformers', 'av'} & set(sys.modules)"
    )
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=60)
    assert time.perf_counter() - begin < 5  # 0.25 s on an idle core; `make bench` holds the limit of 0.5 s


@pytest.mark.parametrize("arguments", [["--wrong"], ["wrong"], ["generate"], ["generate", "--gamma", "much"]], ids=str)
def test_a_wrong_command_line_is_one_sentence(alignvid, arguments):
    code, out, err = alignvid(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("alignvid: ")
    assert err.count("\n") == 1


PICTURE = ROOT / "examples" / "scene-1.png"
CARELESS = {
    "a prompt without its option": (
        ("generate", "a cat", "--out", "o"),
        "extra argument (a cat); `alignvid generate --help`",
    ),
    "no folder": (("generate", "--prompt", "a cat"), "Missing option '--out'; `alignvid generate --help` shows"),
    "half a command": (("gen",), "No such command 'gen'; `alignvid --help` shows what there is."),
    "a word for help": (("help",), "No such command 'help'; `alignvid --help`"),
    "a slip": (("modles",), "Did you mean 'models'?"),
    "a slip in a group": (("bench", "jugde", "run"), "Did you mean 'judge'?"),
    "a slip in an option": (("generate", "--gama", "2"), "'--gamma'"),
    "an option of before": (("generate", "--width", "64"), "No such option '--width'; `alignvid generate --help`"),
    "a comma in a size": (("generate", "--prompt", "x", "--out", "o", "--size", "832,480"), "example 832x480"),
    "no run": (("bench", "score"), "Missing argument 'RUN'; `alignvid bench score --help`"),
    "no judge": (("bench", "judge", "run"), "Missing option '--judge'"),
    "a number in words": (
        ("generate", "--prompt", "x", "--out", "o", "--steps", "many"),
        "'many' is not a valid integer",
    ),
    "two pictures": (
        ("generate", "--prompt", "x", "--out", "o", "--image", "a.png,b.png"),
        "'a.png,b.png' does not exist",
    ),
    "a page for a run": (("bench", "report", "."), "'.' holds no run"),
    "a list for lines": (("generate", "--jobs", "jobs.json", "--out", "o"), "write one object on each line"),
    "a folder without a list": (("bench", "run", "--data", ".", "--out", "o"), "a data set needs a meta.json"),
    "a preset's family": (
        ("generate", "--prompt", "x", "--out", "o", "--preset", "wan", "--image", PICTURE),
        "'wan' is not a preset",
    ),
    "a short name": (("generate", "--prompt", "x", "--out", "o", "--model", "sd15"), "Model 'sd15' is not there"),
    "a run that nobody watched": (("inspect", "--run", "."), "give a record.json"),
}


@pytest.mark.parametrize("case", CARELESS)
def test_what_a_careless_user_types_is_one_sentence_that_says_what_to_do(alignvid, tmp_path, monkeypatch, case):
    arguments, sentence = CARELESS[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs.json").write_text('[\n  {"id": "a", "prompt": "a cat"}\n]\n')
    code, out, err = alignvid(*arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.startswith("alignvid: ") and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["jobs.json"]


@pytest.mark.parametrize("group", [(), ("bench",)], ids=str)
def test_a_group_alone_prints_its_help_as_it_is(alignvid, group):
    code, out, err = alignvid(*group)
    assert (code, err) == (0, "")
    assert out.rstrip("\n") == alignvid(*group, "--help")[1].rstrip("\n")
    assert out.startswith("Usage: alignvid") and "\nCommands:\n" in out


def test_python_dash_m_is_the_same_command():
    command = [sys.executable, "-m", "alignvid", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("alignvid, version ")


def test_a_ctrl_c_that_a_library_turned_into_an_error_of_its_own_ends_with_130(alignvid, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise InputError("The config does not describe a model.")  # noqa: B904  # as a library does

    monkeypatch.setattr("alignvid.bench.runs.running.run", interrupted)
    code, out, err = alignvid("bench", "run", "--data", "omitshapes", "--out", tmp_path / "run")
    assert (code, out, err) == (130, "", "alignvid: Interrupted; nothing unfinished was kept.\n")
