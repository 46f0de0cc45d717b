"""The wheel that users install, built for real."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    pytest.importorskip("hatchling", reason="builds the wheel")
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=200)
    (wheel,) = out.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_type_checkers_are_told_that_the_package_is_typed(files):
    assert "alignvid/py.typed" in files


def test_what_the_code_reads_is_in_the_wheel(files):
    for name in (
        "presets/generic.toml",
        "models/evidence.json",
        "report/page.css",
        "miniature/weights/model_index.json",
    ):
        assert f"alignvid/{name}" in files


def test_the_training_is_not_in_the_wheel(files):
    assert not any(name.startswith("alignvid/miniature/training") for name in files)
