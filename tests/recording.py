"""What the tests of families found, written down for the model table: `pytest tests/models --record-models`.

A test says by `@pytest.mark.exercises("…")` what it exercises on the pipeline that its parameter `name` builds; it may
add facts with `record_property`. What is written is what passed, and nothing else.
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
    if not session.config.getoption(OPTION) or not _found:
        return
    recorded = {
        name: entry | {"exercised": sorted(claim for claim, passed in entry["exercised"].items() if passed)}
        for name, entry in sorted(_found.items())
        if "pipeline" in entry  # else not even its facts could be told
    }
    lines = [f"{json.dumps(name)}: {json.dumps(entry, ensure_ascii=False)}" for name, entry in recorded.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
