"""Attaching needs torch and small pure-Python packages alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "support" / "light_core.py"
LIGHT = os.environ.get("ALIGNVID_LIGHT")
"""Python of an environment without the blocked packages; `make test-light` makes it."""

SMALL = {"jaxtyping", "wadler_lindig"}
OF_TORCH = {"filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx", "sympy", "typing_extensions"}
"""What torch itself asks for, and imports when it likes."""


def run(python: str, *options: str) -> dict:
    done = subprocess.run([python, str(SCRIPT), *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(
    scope="module",
    params=[
        "packages blocked",
        pytest.param("packages absent", marks=pytest.mark.skipif(LIGHT is None, reason="run it with: make test-light")),
    ],
)
def found(request):
    return run(sys.executable, "--block") if request.param == "packages blocked" else run(LIGHT)


def test_attaching_imports_only_small_packages_beside_torch(found):
    assert found["core_modules"] > 120 and found["families"] > 50  # every module of the core, every built-in family
    assert {name for name in found["packages"] if not name.startswith("_")} <= SMALL | OF_TORCH
    assert found["heavy"] == []


@pytest.mark.parametrize(("gamma", "tolerance"), [("1", 0.0), ("2", 0.0), ("1.35", 1e-6)])  # factors of 2 are exact
def test_a_plain_transformer_gets_the_gain_of_an_explicit_softmax(found, gamma, tolerance):
    assert found[f"error at {gamma}"] <= tolerance
    assert (found[f"moved at {gamma}"] > 1e-3) == (gamma != "1")
    assert found[f"outside at {gamma}"]  # the step after the window is bit-equal
    assert "3 sites" in found[f"summary at {gamma}"]


def test_detaching_restores_outputs_and_classes(found):
    assert found["restored"] and found["same classes"]
