"""The wheels that a machine without diffusers or a network needs for gpu.py: alignvid's own, and pure Python.

Compiled packages fit one Python and one platform only. They, and torch, are taken to be there, and are named.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

WHEELS = Path(".whl")
ROOT = Path(__file__).parents[1]
NOT_NEEDED = {"av", "ftfy", "typer"}
"""For video files, prompts and a command line: nothing here imports them, and each needs a compiled package."""
COMMAND = (
    f"python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/site "
    f'{WHEELS}/*.whl && PYTHONPATH=/tmp/site python3 benchmarks/gpu.py --out "${{OUT:-out}}/gpu.md"'
)


class Needed(NamedTuple):
    pure: dict[str, str]
    """Versions by name."""
    compiled: dict[str, str]


def needed(root: str = "alignvid") -> Needed:
    """What a package requires, and what that requires in turn, as installed here."""
    found = Needed({}, {"torch": distribution("torch").version})
    waiting, seen = [root], {"torch", *NOT_NEEDED}
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            package = distribution(name)
        except PackageNotFoundError:  # a marker of another platform
            continue
        if name != root:
            (found.pure if _is_pure(package) else found.compiled)[name] = package.version
        waiting += [
            canonicalize_name(wanted.name)
            for wanted in map(Requirement, package.requires or ())
            if wanted.marker is None or wanted.marker.evaluate({"extra": "diffusers" if name == root else ""})
        ]
    return found


def _is_pure(package: Distribution) -> bool:
    return "py3-none-any" in (package.read_text("WHEEL") or "").replace("py2.py3", "py3")


def pack() -> None:
    """Fill the folder of wheels anew, and print what to run there."""
    wheels, wanted = ROOT / WHEELS, needed()
    shutil.rmtree(wheels, ignore_errors=True)
    pip = [sys.executable, "-m", "pip"]
    pure = [f"{name}=={version}" for name, version in wanted.pure.items()]
    try:
        subprocess.run([*pip, "wheel", "-qq", "--no-deps", "-w", str(wheels), str(ROOT)], check=True)
        subprocess.run(
            [
                *pip,
                "download",
                "-qq",
                "--no-deps",
                "--only-binary=:all:",
                "--platform",
                "any",
                "-d",
                str(wheels),
                *pure,
            ],
            check=True,
        )
    except subprocess.CalledProcessError as error:
        sys.exit(f"pip could not fetch the wheels (exit code {error.returncode}; its reason is above).")
    size = sum(wheel.stat().st_size for wheel in wheels.iterdir())
    compiled = ", ".join(f"{name} {version}" for name, version in sorted(wanted.compiled.items()))
    print(f"{len(list(wheels.iterdir()))} wheels, {size / 2**20:.1f} MiB, in {WHEELS}/.")
    print(f"Taken to be there, in about the versions that are here: {compiled}.")
    print(f"Copy the repository with {WHEELS}/ there, and run in it:\n\n{COMMAND}")
