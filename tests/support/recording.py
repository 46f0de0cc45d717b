"""What tests found on pipelines, written down: `pytest tests/models tests/combinations --run-slow --record-models`.

A test says by `@pytest.mark.exercises("…")` what it exercises on the pipeline that its parameter `name` builds, for the
model table; or by `@pytest.mark.combines`, for the table of what works together, that its parameter `combination` is
it. It may add facts with `record_property`. What is written is what passed, and nothing else. A run of some tests
leaves what others found, and so does one that is skipped, so start from an empty file where a pipeline has changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

_FOLDER = Path(__file__).parents[2] / "src" / "alignvid" / "models"
FILES = {"exercises": _FOLDER / "evidence.json", "combines": _FOLDER / "combined.json"}
"""Where the tests of each marker are written down."""
OPTION = "--record-models"

_found: dict[str, dict[str, dict[str, Any]]] = {marker: {} for marker in FILES}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Any:
    report = yield
    if item.config.getoption(OPTION) and (report.when == "call" or report.failed) and not report.skipped:
        for kind in FILES:
            if (marker := item.get_closest_marker(kind)) is not None:
                claim = marker.args[0] if marker.args else item.callspec.params["combination"]
                _note(_found[kind].setdefault(item.callspec.params["name"], {"exercised": {}}), claim, report)
    return report


def _note(entry: dict[str, Any], claim: str, report: pytest.TestReport) -> None:
    claims = entry["exercised"]
    claims[claim] = claims.get(claim, True) and report.passed
    entry.update(report.user_properties)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not session.config.getoption(OPTION):
        return
    from registry import BUILDERS  # here, for it imports all of diffusers' pipelines

    for kind, found_by_name in _found.items():
        if found_by_name:
            file = FILES[kind]
            recorded = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
            for name, found in found_by_name.items():
                recorded[name] = _merged(recorded.get(name, {}), found)
            complete = {name: entry for name, entry in sorted(recorded.items()) if name in BUILDERS}
            _write(file, {name: entry for name, entry in complete.items() if "pipeline" in entry})


def _merged(recorded: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """An entry with what this run found: claims that it did not test stay as they were."""
    before = dict.fromkeys(recorded.get("exercised", ()), True) | dict.fromkeys(recorded.get("failed", ()), False)
    claims = before | found["exercised"]
    sorted_claims = {
        "exercised": sorted(claim for claim, passed in claims.items() if passed),
        "failed": sorted(claim for claim, passed in claims.items() if not passed),
    }
    return recorded | found | sorted_claims


def _write(file: Path, recorded: dict[str, Any]) -> None:
    lines = [f"{json.dumps(name)}: {json.dumps(entry, ensure_ascii=False)}" for name, entry in recorded.items()]
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
