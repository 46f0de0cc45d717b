"""Checks what `make release` built, and says what a person must do to publish it.

    python tests/support/release.py dist

Exits 1 and names every fault. Nothing here publishes: that needs an account.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_BYTES = 14 * 2**20
LEFT_OUT = (".github/", ".gitignore")
"""Of the code host, not of a release."""

TO_PUBLISH = """
Checked: {files}. Nothing was published. To publish {version}, a person must
  1. have an account on a package index, and make sure that the name "alignvid" is free there or theirs;
  2. give the repository an address: [project.urls] and the `replacement` for the README's links in pyproject.toml,
     Repository and PublisherId in comfyui/pyproject.toml;
  3. write pip install "alignvid[generate]" into README.md, docs/install.md and comfyui/README.md in place of the
     checkout (IS_PUBLISHED = True in tests/test_release.py asks for it), and the day into CHANGELOG.md and
     CITATION.cff (date-released), if it is another one than there;
  4. run `make check test release` again, and tag that commit: git tag -a v{version}, with -f if the tag is on
     an earlier one;
  5. upload: .venv-release/bin/twine upload dist/*  (it asks for the account's token).
"""


def names_in(archive: Path) -> set[str]:
    """Files of a wheel, or of an sdist without its first folder."""
    if archive.suffix == ".whl":
        return set(zipfile.ZipFile(archive).namelist())
    with tarfile.open(archive) as sdist:
        return {name.partition("/")[2] for name in sdist.getnames()}


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(files.read(name).decode("utf-8"))


def tracked_files() -> set[str]:
    """What is in the repository."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).exists()}


def faults_of_sdist(names: set[str], tracked: set[str]) -> list[str]:
    """It has every file of the repository, so that the tests run from it, and no other."""
    wanted = {name for name in tracked if not name.startswith(LEFT_OUT)}
    lost, strange = sorted(wanted - names), sorted(names - tracked - {"PKG-INFO", ".gitignore"})
    faults = [f"The sdist lacks {', '.join(lost)}."] if lost else []
    return faults + ([f"The sdist has what the repository has not: {', '.join(strange)}."] if strange else [])


def faults_of_wheel(names: set[str], tracked: set[str]) -> list[str]:
    """It has the package without its training, its data, and nothing beside it."""
    package = {name.removeprefix("src/") for name in tracked if name.startswith("src/alignvid/")}
    wanted = {name for name in package if "/miniature/training/" not in name}
    found = {name for name in names if ".dist-info/" not in name}
    faults = [f"The wheel lacks {name}." for name in sorted(wanted - found)]
    return faults + [f"The wheel has {name}, which does not belong there." for name in sorted(found - wanted)]


def faults(folder: Path) -> list[str]:
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    tracked = tracked_files()
    large = [file for file in (wheel, sdist) if file.stat().st_size > MOST_BYTES]
    return [
        *faults_of_sdist(names_in(sdist), tracked),
        *faults_of_wheel(names_in(wheel), tracked),
        *(f"{file.name} has {file.stat().st_size:,} bytes, more than {MOST_BYTES:,}." for file in large),
    ]


def main(folder: Path) -> None:
    if found := faults(folder):
        sys.exit("\n".join(found))
    files = sorted(folder.iterdir())
    sizes = ", ".join(f"{file.name} ({file.stat().st_size / 2**20:.1f} MB)" for file in files)
    print(TO_PUBLISH.format(files=sizes, version=metadata_of(next(folder.glob("*.whl")))["Version"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
