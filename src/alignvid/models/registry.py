"""Which families exist, and which one describes a given transformer.

A family is a module-level `FAMILY` in a module named by an entry point of the group "alignvid.models". The built-in
ones register the same way as those of a third party.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points
from typing import Any, NamedTuple

from torch import nn

from alignvid.errors import AttachmentError, UnsupportedModel
from alignvid.models.family import UNCONDITIONAL, Family, class_name
from alignvid.models.refused import REFUSED
from alignvid.plugins import load_plugin

ENTRY_POINT_GROUP = "alignvid.models"
_NEAREST = 3  # names in a message

_registered: dict[str, Family] = {}


class Host(NamedTuple):
    """A transformer that a pipeline runs, with the family that describes it."""

    name: str
    """Attribute of the pipeline, such as "transformer_2"."""
    called: nn.Module
    """The object that the pipeline calls: the transformer, or torch.compile's wrapper of it."""
    transformer: nn.Module
    """The transformer itself."""
    family: Family


def register(family: Family) -> None:
    """Make a family known in this process, without packaging it. It goes before an installed one of the same name."""
    _registered[family.name] = family


def families() -> dict[str, Family]:
    """Every known family by name, sorted."""
    return dict(sorted({**_installed_families(), **_registered}.items()))


def hosts(model: Any) -> list[Host]:
    """The supported transformers of a pipeline, or of a bare transformer.

    Raises: UnsupportedModel if none is described by a family; AttachmentError if a pipeline has none loaded.
    """
    if isinstance(model, nn.Module):
        return [_host("transformer", model)]
    if isinstance(model, type):
        raise UnsupportedModel(f"{model.__name__} is a class; pass a model, as its from_pretrained gives it.")
    if not hasattr(model, "components"):
        raise UnsupportedModel(
            f"{type(model).__name__} is neither a diffusers pipeline nor a transformer; pass one, as from_pretrained "
            "gives it."
        )
    _check_refused(class_name(model))
    components = dict(_transformer_components(model))
    if not components:
        raise UnsupportedModel(
            f"{type(model).__name__} has no transformer, so that there is nothing to act on; `alignvid models` lists "
            "the pipelines that are supported."
        )
    found = [(name, module) for name, module in components.items() if module is not None]
    if not found:
        names = f"{' and '.join(components)} {'is' if len(components) == 1 else 'are'} None"
        raise AttachmentError(f"{type(model).__name__} has no transformer loaded ({names}); load it, then attach.")
    return [_host(name, module) for name, module in found]


def family_of(transformer: nn.Module) -> Family:
    """The family that describes a transformer.

    Raises: UnsupportedModel naming the nearest supported classes; AttachmentError if it is wrapped by another tool.
    """
    class_names = [base.__name__ for base in type(transformer).__mro__]
    for family in families().values():
        if any(name in class_names for name in family.transformers):
            return family
    _check_refused(type(transformer).__name__)
    if (path := _supported_inside(transformer)) is not None:
        raise AttachmentError(
            f"The transformer is wrapped in {type(transformer).__name__}, which alignvid does not see through; "
            f"attach before wrapping it, or to what lies inside, at `{path}`."
        )
    name = type(transformer).__name__
    raise UnsupportedModel(f"{name} is not supported; {what_is_supported(name, supported_transformers())}")


def _supported_inside(wrapper: nn.Module) -> str | None:
    """Path of a supported transformer within a module of somebody else's, such as DataParallel's or PEFT's."""
    supported = supported_transformers()
    return next((path for path, module in wrapper.named_modules() if type(module).__name__ in supported), None)


def supported_transformers() -> list[str]:
    """Names of the transformer classes that a family describes."""
    return [name for family in families().values() for name in family.transformers]


def what_is_supported(wanted: str, supported: Collection[str]) -> str:
    """The few names that come nearest, how many there are, and the way to one's own: the end of a message."""
    nearest = ", ".join(get_close_matches(wanted, supported, n=_NEAREST, cutoff=0.0))
    return (
        f"nearest among the {len(supported)} that are supported: {nearest} (`alignvid models` lists all). "
        "docs/families.md shows how to describe another one in 25 lines."
    )


def _check_refused(name: str) -> None:
    if (reason := REFUSED.get(name)) is not None:
        raise UnsupportedModel(f"{name} is not supported. {reason}")


def _transformer_components(pipeline: Any) -> Iterator[tuple[str, nn.Module | None]]:
    for name, module in pipeline.components.items():
        if name in ("transformer", UNCONDITIONAL) or name.startswith("transformer_"):
            yield name, module


def _host(name: str, called: nn.Module) -> Host:
    transformer = getattr(called, "_orig_mod", called)  # torch.compile(model) keeps the model there
    if _has_no_weights(transformer):
        raise AttachmentError(f"The {name} has no weights yet (it is on the meta device); load them, then attach.")
    return Host(name, called, transformer, family_of(transformer))


def _has_no_weights(transformer: nn.Module) -> bool:
    """Parameters on the meta device, and no offloading hook that fetches them when they are needed."""
    parameter = next(transformer.parameters(), None)
    is_offloaded = any(hasattr(module, "_hf_hook") for module in transformer.modules())
    return parameter is not None and parameter.is_meta and not is_offloaded


@cache
def _installed_families() -> dict[str, Family]:
    return {
        point.name: load_plugin(point, "FAMILY", "family", UnsupportedModel)
        for point in entry_points(group=ENTRY_POINT_GROUP)
    }
