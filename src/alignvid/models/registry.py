"""Which families exist, and which one describes a given transformer.

A family is a module-level `FAMILY` in a module named by an entry point of the group "alignvid.models". The built-in
ones register the same way as those of a third party.
"""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points

from torch import nn

from alignvid.errors import AttachmentError, UnsupportedModel
from alignvid.models.family import Family
from alignvid.models.refused import REFUSED
from alignvid.plugins import load_plugin

ENTRY_POINT_GROUP = "alignvid.models"
_NEAREST = 3  # names in a message

_registered: dict[str, Family] = {}


def register(family: Family) -> None:
    """Make a family known in this process, without packaging it. It goes before an installed one of the same name."""
    _registered[family.name] = family


def families() -> dict[str, Family]:
    """Every known family by name, sorted."""
    return dict(sorted({**_installed_families(), **_registered}.items()))


def family_of(transformer: nn.Module) -> Family:
    """The family that describes a transformer.

    A family that was registered in this process goes before an installed one that describes the same class.
    Raises: UnsupportedModel naming the nearest supported classes, or the package of one that merely bears a known
    name; AttachmentError if it is wrapped by another tool.
    """
    for kind in type(transformer).__mro__:  # the nearest described class counts: ours over it is a subclass, too
        for family in (*_registered.values(), *families().values()):
            if family.describes(kind):
                return family
    check_refused(type(transformer).__name__)
    _refuse_lookalike(type(transformer))
    if (path := _supported_inside(transformer)) is not None:
        raise AttachmentError(
            f"The transformer is wrapped in {type(transformer).__name__}, which alignvid does not see through; "
            f"attach before wrapping it, or to what lies inside, at `{path}`."
        )
    name = type(transformer).__name__
    raise UnsupportedModel(f"{name} is not supported; {what_is_supported(name, supported_transformers())}")


def _supported_inside(wrapper: nn.Module) -> str | None:
    """Path of a supported transformer within a module of another tool, such as DataParallel's or PEFT's."""
    known = families().values()
    return next(
        (path for path, module in wrapper.named_modules() if any(family.describes(type(module)) for family in known)),
        None,
    )


def _refuse_lookalike(kind: type) -> None:
    """Raises: UnsupportedModel for a class of another package that bears the name of one that a family describes."""
    name, module = kind.__name__, kind.__module__
    for family in families().values():
        if named := next((known for known in family.transformers if known.rpartition(":")[2] == name), None):
            package = named.rpartition(":")[0] or "diffusers"
            raise UnsupportedModel(
                f"This {name} is of {module}; the family {family.name} describes the class of that name in {package}, "
                "and another may name its blocks otherwise. Describe it by a family of transformers="
                f'("{module}:{name}",); docs/families.md shows how.'
            )


def supported_transformers() -> list[str]:
    """Names of the transformer classes that a family describes."""
    return [name for family in families().values() for name in family.transformers]


def what_is_supported(wanted: str, supported: Collection[str]) -> str:
    """The few names that come nearest, how many there are, and how to describe another: the end of a message."""
    nearest = ", ".join(get_close_matches(wanted, supported, n=_NEAREST, cutoff=0.0))
    return (
        f"nearest among the {len(supported)} that are supported: {nearest} (`alignvid models` lists all). "
        "docs/families.md shows how to describe another one in 25 lines."
    )


def check_refused(name: str) -> None:
    """Raises: UnsupportedModel with the reason, if a class of that name is known not to be possible."""
    if (reason := REFUSED.get(name)) is not None:
        raise UnsupportedModel(f"{name} is not supported. {reason}")


@cache
def _installed_families() -> dict[str, Family]:
    return {
        point.name: load_plugin(point, "FAMILY", "family", UnsupportedModel)
        for point in entry_points(group=ENTRY_POINT_GROUP)
    }
