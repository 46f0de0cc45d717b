"""What is not installed is named in one sentence, with the line that installs it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DISTRIBUTIONS = {"PIL": "pillow"}
"""By the name to import, where they differ."""

WITHOUT = "import sys; sys.modules.update(dict.fromkeys({missing!r})); {code}"


def run(missing: list[str], code: str) -> subprocess.CompletedProcess:
    program = WITHOUT.format(missing=missing, code=code)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def brings(extra: str) -> set[str]:
    """Names of the distributions that an extra installs, with the extras that it names."""
    found = set()
    for requirement in PROJECT["optional-dependencies"][extra]:
        name, others = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", requirement).groups()
        found |= {name} if others is None else set().union(*map(brings, others.split(",")))
    return found


@pytest.mark.parametrize(
    ("room", "missing"),
    [
        ("analysis", "numpy"),
        ("app", "gradio"),
        ("bench", "numpy"),
        ("calibration", "PIL"),
        ("cli", "click"),
        ("generate", "diffusers"),
        ("generate", "av"),
        ("media", "PIL"),
        ("plots", "numpy"),
        ("report", "jinja2"),
    ],
)
def test_a_room_whose_extra_is_missing_names_it_and_the_extra_brings_it(room, missing):
    done = run([missing], f"import alignvid.{room}")
    last = done.stderr.splitlines()[-1]
    extra = re.search(r'pip install "alignvid\[(\w+)\]"', last)
    assert done.returncode == 1 and "MissingExtra" in last and f"needs {missing}, which is not installed" in last
    assert DISTRIBUTIONS.get(missing, missing) in brings(extra[1])


def test_the_public_observe_says_what_it_needs():
    done = run(["numpy", "safetensors"], "import alignvid; alignvid.observe")
    assert 'needs numpy and safetensors, which are not installed; type: pip install "alignvid[observe]"' in done.stderr


@pytest.mark.parametrize(
    ("missing", "arguments", "named"),
    [
        (["click"], ["presets"], "click"),
        (["diffusers", "transformers"], ["generate", "--prompt", "x", "--out", "out"], "diffusers and transformers"),
        pytest.param(["jinja2"], ["demo", "--out", "out"], "jinja2", marks=pytest.mark.slow),
    ],
)
def test_the_console_script_says_it_in_one_sentence_and_exits_with_2(tmp_path, missing, arguments, named):
    script = PROJECT["scripts"]["alignvid"].partition(":")
    code = f"import os; os.chdir({str(tmp_path)!r}); sys.argv[1:] = {arguments!r}; from {script[0]} import main; main()"
    done = run(missing, code)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(
        rf'alignvid: .*needs {named}, which .* type: pip install "alignvid\[generate\]"\.\n', done.stderr
    )


@pytest.mark.parametrize("command", ["presets", "models"])
def test_commands_that_run_no_model_need_no_diffusers(command):
    code = f"sys.argv[1:] = [{command!r}, '--json']; from alignvid.__main__ import main; main()"
    done = run(["diffusers", "transformers", "accelerate", "numpy", "PIL"], code)
    assert done.returncode == 0 and done.stdout.startswith("[")


def test_a_plain_install_asks_for_torch_and_small_packages_alone():
    assert {re.match(r"[\w-]+", line)[0] for line in PROJECT["dependencies"]} == {"torch", "jaxtyping"}


@pytest.mark.parametrize(
    "pin", ["2.14.1", "2.13.0"], ids=["SGLang 0.5.23", "vLLM 0.30.0, under vLLM-Omni 0.30.0"]
)  # read from their wheels' metadata; neither asks for jaxtyping, and ComfyUI pins no torch
def test_a_plain_install_leaves_the_torch_that_an_engine_pins(pin):
    bounds = [Requirement(line).specifier for line in PROJECT["dependencies"] if line.startswith("torch")]
    assert [pin in bound for bound in bounds] == [True]
