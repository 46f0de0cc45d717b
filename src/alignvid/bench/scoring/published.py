"""The numbers that the authors published: beside ours, marked by protocol, never averaged with them."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

_FILE = "published.json"


@cache
def published() -> dict[str, Any]:
    """Source, protocol and rows; in percent."""
    return json.loads((files("alignvid.bench.scoring") / _FILE).read_text(encoding="utf-8"))


def is_comparable(data_name: str) -> bool:
    """Whether a run is on the data that the published numbers are of."""
    return data_name.lower().split("/")[-1].startswith(published()["data"].lower())
