"""Which kinds of modulation exist: the built-in ones, those registered in this process, those of installed packages.

A package adds one by an entry point of the group "alignvid.modulations", named as its kind is: a module with a
`MODULATION`, or "module:Class". docs/modulations.md is a worked example. A package's code is imported only where its
kind is asked for by name, so that a broken one breaks nothing else.
"""

from __future__ import annotations

import inspect
from dataclasses import is_dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from alignvid.errors import ModulationError
from alignvid.modulation.alg import Alg
from alignvid.modulation.base import Modulation
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
from alignvid.modulation.scalar import Scalar
from alignvid.plugins import load_plugin

ENTRY_POINT_GROUP = "alignvid.modulations"

BUILT_IN: tuple[type[Modulation], ...] = (
    Scalar,
    Energy,
    ConflictAware,
    LogBias,
    Emphasis,
    KeyBlur,
    LowPass,
    Grag,
    Dcag,
    RefKV,
    DyMoS,
    Painter,
    DownUp,
    Alg,
    Nag,
)

_registered: dict[str, type[Modulation]] = {}


def register(kind: type[Modulation]) -> None:
    """Make a kind known in this process, without packaging it.

    Raises: ModulationError if it is no kind of modulation, or bears the name of a built-in one.
    """
    _registered[kind.kind] = _checked(kind, f"The modulation {getattr(kind, '__name__', kind)!r}")


def kind_names() -> list[str]:
    """Names of all kinds, the built-in ones first."""
    installed = [point.name for point in entry_points(group=ENTRY_POINT_GROUP)]
    return list(dict.fromkeys([*_built_in(), *_registered, *sorted(installed)]))


def kind_named(name: str) -> type[Modulation]:
    """The kind of that name. Raises: ModulationError if there is none, or the package that adds it is broken."""
    for known in (_built_in(), _registered):
        if name in known:
            return known[name]
    if (point := next(iter(entry_points(group=ENTRY_POINT_GROUP, name=name)), None)) is not None:
        return _loaded(point)
    raise ModulationError(f"The modulation kind {name!r} is unknown; choose one of {', '.join(kind_names())}.")


def _built_in() -> dict[str, type[Modulation]]:
    return {kind.kind: kind for kind in BUILT_IN}


def _loaded(point: EntryPoint) -> type[Modulation]:
    kind = load_plugin(point, "MODULATION", "modulation", ModulationError)
    checked = _checked(kind, f"The modulation {point.name!r} of {point.value}")
    if checked.kind != point.name:
        raise ModulationError(
            f"The entry point {point.name!r} of the group {ENTRY_POINT_GROUP} gives a modulation of kind "
            f"{checked.kind!r}; both must be named alike."
        )
    return checked


def _checked(kind: Any, what: str) -> type[Modulation]:
    """Raises: ModulationError if this cannot be a kind of modulation of another package."""
    if not (isinstance(kind, type) and issubclass(kind, Modulation)):
        raise ModulationError(f"{what} is no subclass of alignvid.modulation.Modulation, but {kind!r}.")
    lacking = [name for name in ("kind", "effects") if not isinstance(getattr(kind, name, None), str)]
    if inspect.isabstract(kind):
        lacking += sorted(kind.__abstractmethods__)
    if not is_dataclass(kind) or not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]  # a dataclass has it
        lacking.append("@dataclass(frozen=True)")
    if lacking:
        raise ModulationError(f"{what} lacks {', '.join(lacking)}; docs/modulations.md has a whole one.")
    if kind.kind in _built_in():
        raise ModulationError(f"{what} has the name of a built-in kind, {kind.kind!r}; give it another.")
    return kind
