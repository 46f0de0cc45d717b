"""Which transformers a pipeline runs, and which family describes each."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

from alignvid.errors import AttachmentError, UnsupportedModel
from alignvid.host.registry import runner_of
from alignvid.host.versions import check_versions
from alignvid.models.family import Family
from alignvid.models.registry import family_of


class Host(NamedTuple):
    """A transformer that a pipeline runs, with the family that describes it."""

    name: str
    """Attribute of the pipeline, such as "transformer_2"."""
    called: nn.Module
    """The object that the pipeline calls: the transformer, or torch.compile's wrapper of it."""
    transformer: nn.Module
    """The transformer itself."""
    family: Family


def hosts(model: Any) -> list[Host]:
    """The supported transformers of a pipeline or another host's object, or of a bare transformer.

    Raises: UnsupportedModel if none is described by a family; AttachmentError if a pipeline has none loaded.
    """
    if isinstance(model, type):
        raise UnsupportedModel(f"{model.__name__} is a class; pass a model, as its from_pretrained gives it.")
    transformers = runner_of(model).transformers(model)
    if not transformers:
        raise UnsupportedModel(
            f"{type(model).__name__} has no transformer, so that there is nothing to act on; `alignvid models` lists "
            "the pipelines that are supported."
        )
    found = [(name, module) for name, module in transformers.items() if module is not None]
    if not found:
        names = f"{' and '.join(transformers)} {'is' if len(transformers) == 1 else 'are'} None"
        raise AttachmentError(f"{type(model).__name__} has no transformer loaded ({names}); load it, then attach.")
    return [_host(name, module) for name, module in found]


def _host(name: str, called: nn.Module) -> Host:
    transformer = getattr(called, "_orig_mod", called)  # torch.compile(model) keeps the model there
    if _has_no_weights(transformer):
        raise AttachmentError(f"The {name} has no weights yet (it is on the meta device); load them, then attach.")
    check_versions(type(transformer))
    return Host(name, called, transformer, family_of(transformer))


def _has_no_weights(transformer: nn.Module) -> bool:
    """Parameters on the meta device, and no offloading hook that fetches them when they are needed."""
    parameter = next(transformer.parameters(), None)
    is_offloaded = any(hasattr(module, "_hf_hook") for module in transformer.modules())
    return parameter is not None and parameter.is_meta and not is_offloaded
