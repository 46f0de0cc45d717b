"""What acts on attention: the kinds of modulation. Plain data, without torch; docs/modulations.md compares them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alignvid.errors import ModulationError
from alignvid.modulation.base import DEFAULT_GAMMA, INNER_STREAMS, Modulation, Powers, check_gamma, split_target
from alignvid.modulation.conflict import ConflictAware
from alignvid.modulation.emphasis import Emphasis
from alignvid.modulation.energy import Energy
from alignvid.modulation.log_bias import LogBias
from alignvid.modulation.pilot import KeyBlur, LowPass
from alignvid.modulation.scalar import Scalar

KINDS: dict[str, type[Modulation]] = {
    kind.kind: kind for kind in (Scalar, Energy, ConflictAware, LogBias, Emphasis, KeyBlur, LowPass)
}
"""Every kind by its name in files."""

__all__ = [
    "DEFAULT_GAMMA",
    "INNER_STREAMS",
    "KINDS",
    "Emphasis",
    "Energy",
    "KeyBlur",
    "LogBias",
    "LowPass",
    "Modulation",
    "Powers",
    "Scalar",
    "check_gamma",
    "from_dict",
    "split_target",
]


def from_dict(settings: Mapping[str, Any]) -> Modulation:
    """Read a dict written by a modulation's `to_dict`; without a kind it is a scalar.

    Raises: ModulationError for an unknown kind or field.
    """
    kind = settings.get("kind", Scalar.kind)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ModulationError(f"The modulation kind {kind!r} is unknown; choose one of {', '.join(KINDS)}.")
    return KINDS[kind].from_dict(settings)
