"""What the tests of families found, written down for the model table: `pytest tests/models --record-models`.

A test says by `@pytest.mark.exercises("…")` what it exercises on the pipeline that its parameter `name` builds; it may
add facts with `record_property`. What is written is what passed, and nothing else. A run of some tests leaves what
others found, so start from an empty file where a pipeline has changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parent.parent / "src" / "alignvid" / "models" / "exercised.json"
OPTION = "--record-models"

_found: dict[str, dict[str, Any]] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Any:
    report = yield
    marker = item.get_closest_marker("exercises")
    if marker is not None and item.config.getoption(OPTION) and (report.when == "call" or report.failed):
        entry = _found.setdefault(item.callspec.params["name"], {"exercised": {}})
        claims = entry["exercised"]
        claims[marker.args[0]] = claims.get(marker.args[0], True) and report.passed
        entry.update(report.user_properties)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption(OPTION) and _found:
        from registry import BUILDERS  # here, for it imports all of diffusers' pipelines

        recorded = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
        for name, found in _found.items():
            recorded[name] = _merged(recorded.get(name, {}), found)
        _write({name: entry for name, entry in sorted(recorded.items()) if name in BUILDERS and "pipeline" in entry})


def _merged(recorded: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """An entry with what this run found: claims that it did not test stay as they were."""
    before = dict.fromkeys(recorded.get("exercised", ()), True) | dict.fromkeys(recorded.get("failed", ()), False)
    claims = before | found["exercised"]
    sorted_claims = {
        "exercised": sorted(claim for claim, passed in claims.items() if passed),
        "failed": sorted(claim for claim, passed in claims.items() if not passed),
    }
    return recorded | found | sorted_claims


def _write(recorded: dict[str, Any]) -> None:
    lines = [f"{json.dumps(name)}: {json.dumps(entry, ensure_ascii=False)}" for name, entry in recorded.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
