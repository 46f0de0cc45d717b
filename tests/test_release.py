"""What is released: the archives' contents, what they say of themselves, and that the wheel runs elsewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import alignvid
from release import faults_of_sdist, faults_of_wheel, metadata_of, names_in, tracked_files

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IS_PUBLISHED = False
"""Whether a package index has it. Then README.md and docs/install.md install it from there, and not before."""

OTHER_PYTHONS = ["3.12", "3.13"]
WITHOUT_TORCH = """
import alignvid, sys
from alignvid import BlockSet, Recipe, Scalar, StepWindow
recipe = Recipe(Scalar(1.35, {"cross.text": 1.0}), BlockSet.of("first-half"), StepWindow.of("0.0-0.3"))
assert Recipe.from_dict(recipe.to_dict()) == recipe
assert "torch" not in sys.modules
print(alignvid.__version__)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder with the sdist, and the wheel that is built from it."""
    pytest.importorskip("hatchling", reason="builds the archives")
    pytest.importorskip("hatch_fancy_pypi_readme", reason="writes the README of a package index")
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--directory", str(out), "--target"]
    subprocess.run([*build, "sdist"], cwd=ROOT, check=True, capture_output=True, timeout=200)
    (sdist,) = out.glob("*.tar.gz")
    shutil.unpack_archive(sdist, out / "unpacked")
    (unpacked,) = (out / "unpacked").iterdir()
    subprocess.run([*build, "wheel"], cwd=unpacked, check=True, capture_output=True, timeout=200)
    return out


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="asks git which files there are")
def test_the_sdist_is_the_repository_and_the_wheel_the_package(built):
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    tracked = tracked_files()
    assert faults_of_sdist(names_in(sdist), tracked) == []
    assert faults_of_wheel(names_in(wheel), tracked) == []
    assert max(wheel.stat().st_size, sdist.stat().st_size) <= 14 * 2**20


def test_a_lost_and_a_strange_file_are_named():
    tracked = {"README.md", "src/alignvid/a.py", "src/alignvid/miniature/training/b.py", ".github/x"}
    assert faults_of_sdist({"README.md", "src/alignvid/a.py", "notes"}, tracked) == [
        "The sdist lacks src/alignvid/miniature/training/b.py.",
        "The sdist has what the repository has not: notes.",
    ]
    assert faults_of_wheel({"tests/x.py", "alignvid-1.dist-info/METADATA"}, tracked) == [
        "The wheel lacks alignvid/a.py.",
        "The wheel has tests/x.py, which does not belong there.",
    ]


def test_the_readme_of_an_index_has_no_link_into_the_repository(built):
    text = metadata_of(next(built.glob("*.whl"))).get_payload()
    assert "alignvid.attach(pipe" in text and "docs/miniature.md" in text
    assert [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("https://")] == []


def test_one_version_stands_everywhere():
    said = {
        "CITATION.cff": re.search(r'^version: "(.+)"$', (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1],
        "comfyui": tomllib.loads((ROOT / "comfyui" / "pyproject.toml").read_text())["project"]["version"],
        "CHANGELOG.md": re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0],
    }
    assert said == dict.fromkeys(said, alignvid.__version__)


def test_every_classifier_of_a_python_is_one_that_is_allowed():
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if line.startswith("Programming Language")]
    assert named == ["Only", "3.11", *OTHER_PYTHONS] and PROJECT["requires-python"] == ">=3.11"


@pytest.mark.skipif(IS_PUBLISHED, reason="it is published")
@pytest.mark.parametrize("page", ["README.md", "comfyui/README.md", "examples/README.md", "docs"])
def test_nothing_says_that_an_index_has_it_before_one_has(page):
    pages = sorted((ROOT / page).rglob("*.md")) if (ROOT / page).is_dir() else [ROOT / page]
    lines = [line for file in pages for line in file.read_text(encoding="utf-8").splitlines()]
    assert [line for line in lines if re.search(r"pip install (-U |--upgrade )?['\"]?alignvid\b(?!\[)", line)] == []
    assert "links" not in PROJECT and "urls" not in PROJECT  # no address that is not there


def test_the_readme_installs_it_from_where_it_is_today():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert ('pip install ".[generate]"' in text) is not IS_PUBLISHED
    assert ('pip install "alignvid[generate]"' in text) is IS_PUBLISHED


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_wheel_runs_the_demo_in_a_new_environment_outside_of_the_repository(built, tmp_path):
    """The lines of the README's first block, with the wheel in place of the checkout."""
    python = tmp_path / "venv" / "bin" / "python"
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    constraints = ("--constraint", ROOT / "constraints.txt")
    run(python, "-m", "pip", "install", *constraints, "torch", cwd=tmp_path)
    run(python, "-m", "pip", "install", *constraints, f"{next(built.glob('*.whl'))}[generate]", cwd=tmp_path)
    assert str(tmp_path) in run(python, "-c", "import alignvid; print(alignvid.__file__)", cwd=tmp_path)
    run(tmp_path / "venv" / "bin" / "alignvid", "demo", "--out", "demo", cwd=tmp_path)
    assert (tmp_path / "demo" / "index.html").stat().st_size > 1000
    assert len(list((tmp_path / "demo").rglob("alignvid.mp4"))) == 8
    # an installed alignvid fulfils the line of a MissingExtra without any index having it
    planned = run(python, "-m", "pip", "install", "--dry-run", *constraints, "alignvid[plots]", cwd=tmp_path)
    assert "matplotlib" in planned.partition("Would install")[2]


@pytest.mark.slow
@pytest.mark.parametrize("version", OTHER_PYTHONS)
def test_another_python_compiles_every_file_and_runs_what_needs_no_torch(built, tmp_path, version):
    """Torch for it is gigabytes from a package index, so what needs torch is compiled here and not run."""
    python = next(iter(sorted(Path.home().glob(f".pyenv/versions/{version}*/bin/python"))), None)
    if python is None and (found := shutil.which(f"python{version}")):
        python = Path(found)
    if python is None:
        pytest.skip(f"no Python {version} here")
    site = tmp_path / "site"
    wheel = next(built.glob("*.whl"))
    run(
        python, "-m", "pip", "install", "--no-deps", "--target", site, wheel, "jaxtyping", "wadler-lindig", cwd=tmp_path
    )
    run(python, "-W", "error", "-m", "compileall", "-q", "-f", site / "alignvid", cwd=tmp_path)
    code = f"import sys; sys.path.insert(0, {str(site)!r})\n{WITHOUT_TORCH}"
    assert run(python, "-W", "error", "-c", code, cwd=tmp_path).strip() == alignvid.__version__
