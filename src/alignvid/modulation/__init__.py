"""What acts on attention: the kinds of modulation. Plain data, without torch; docs/modulations.md compares them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alignvid.errors import ModulationError
from alignvid.modulation.alg import Alg
from alignvid.modulation.base import DEFAULT_GAMMA, INNER_STREAMS, Modulation, Powers, check_gamma, split_target
from alignvid.modulation.conflict import ConflictAware
from alignvid.modulation.down_up import DownUp
from alignvid.modulation.dymos import DyMoS
from alignvid.modulation.emphasis import Emphasis
from alignvid.modulation.energy import Energy
from alignvid.modulation.grag import Dcag, Grag
from alignvid.modulation.log_bias import LogBias
from alignvid.modulation.nag import Nag
from alignvid.modulation.painter import Painter
from alignvid.modulation.pilot import KeyBlur, LowPass
from alignvid.modulation.ref_kv import RefKV
from alignvid.modulation.registry import BUILT_IN, kind_named, kind_names, register
from alignvid.modulation.scalar import Scalar

__all__ = [
    "BUILT_IN",
    "DEFAULT_GAMMA",
    "INNER_STREAMS",
    "Alg",
    "ConflictAware",
    "Dcag",
    "DownUp",
    "DyMoS",
    "Emphasis",
    "Energy",
    "Grag",
    "KeyBlur",
    "LogBias",
    "LowPass",
    "Modulation",
    "Nag",
    "Painter",
    "Powers",
    "RefKV",
    "Scalar",
    "check_gamma",
    "from_dict",
    "kind_named",
    "kind_names",
    "register",
    "split_target",
]


def from_dict(settings: Mapping[str, Any]) -> Modulation:
    """Read a dict written by a modulation's `to_dict`; without a kind it is a scalar.

    Raises: ModulationError for an unknown kind or field.
    """
    kind = settings.get("kind", Scalar.kind)
    if not isinstance(kind, str):
        raise ModulationError(f"The modulation kind {kind!r} is unknown; choose one of {', '.join(kind_names())}.")
    return kind_named(kind).from_dict(settings)
