"""What runs wait for: the model, which one of them has at a time; and what need not wait."""

from __future__ import annotations

from typing import Any

MODEL = "model"


def waiting(*, shows: Any = None, is_public: bool = False) -> dict[str, Any]:
    """Of an event that needs the model; its place in the queue is shown on the component `shows`."""
    return {
        "show_progress_on": shows,
        "concurrency_id": MODEL,
        "concurrency_limit": 1,
        "show_progress": "minimal",
        "api_visibility": "public" if is_public else "private",
    }


def quick(*, is_public: bool = False) -> dict[str, Any]:
    """Of an event that needs no model."""
    return {"queue": False, "show_progress": "hidden", "api_visibility": "public" if is_public else "private"}
