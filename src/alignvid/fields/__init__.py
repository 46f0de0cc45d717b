"""The one reader of plain data from outside: strict JSON, and fields checked against the annotations of dataclasses.

It knows neither files nor errors: the caller says which error is raised, and adds file and line.
"""

from alignvid.fields.json_text import json_bytes, json_values, mended
from alignvid.fields.typed import (
    OPEN,
    Allowed,
    Count,
    Duration,
    InnerPath,
    Positive,
    Share,
    is_finite_number,
    read,
    read_as,
    within,
)

__all__ = [
    "OPEN",
    "Allowed",
    "Count",
    "Duration",
    "InnerPath",
    "Positive",
    "Share",
    "is_finite_number",
    "json_bytes",
    "json_values",
    "mended",
    "read",
    "read_as",
    "within",
]
