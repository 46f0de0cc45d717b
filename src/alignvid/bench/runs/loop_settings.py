"""Settings of variants that make several attempts, and what they may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alignvid.errors import InputError
from alignvid.following.limits import MOST_ATTEMPTS


def check_loop(settings: Mapping[str, Any], *, is_miniature: bool) -> None:
    """Refuse settings of a loop that cannot be. Raises: InputError."""
    given = [name for name in ("budget", "n", "false_yes", "false_no") if name in settings]
    if not given:
        return
    if "budget" in given and "n" in given:
        raise InputError("budget and n exclude each other: one stops at the first that is right, the other never.")
    if "budget" not in given and "n" not in given:
        raise InputError(f"{given[0]} is of the judge that a loop asks; add budget=3 or n=3.")
    if not is_miniature:
        raise InputError(
            f"{given[0]} is for the miniature: the judge that is asked reads its pictures. For another model, "
            "`alignvid generate --until-followed`."
        )
    count = settings.get("budget", settings.get("n"))
    if not 1 <= count <= MOST_ATTEMPTS:
        raise InputError(f"{given[0]}={count} is out of range; choose 1 to {MOST_ATTEMPTS:,} attempts.")
    for name in ("false_yes", "false_no"):
        if not 0 <= settings.get(name, 0.0) <= 1:
            raise InputError(f"{name}={settings[name]:g} is out of range; choose a share from 0 to 1.")
