"""Where the keys of a live transformer are: every key norm, every target, the chosen blocks."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any, NamedTuple

from torch import nn

from alignvid.blocks import BlockSet
from alignvid.errors import UnknownTarget
from alignvid.host.transformers import Host
from alignvid.models.family import KeyNorm, Site
from alignvid.models.fit import check_fit
from alignvid.models.paths import blocks_of, descend


class NormLocation(NamedTuple):
    """One key norm of one block."""

    host: str
    """Attribute of the pipeline that holds the transformer."""
    stack: str
    block: int
    site: str
    keys: KeyNorm
    norm: nn.Module
    attention: nn.Module
    attention_site: Site
    """The family's description of this attention."""
    block_module: nn.Module

    @property
    def holder(self) -> tuple[nn.Module, str]:
        """The module that holds the norm, and the norm's attribute there."""
        return holder_of(self.attention, self.keys)

    @property
    def is_elsewhere(self) -> bool:
        """Whether the attention does not hold this norm: a neutral one still to be put in, or it was replaced."""
        return descend(self.attention, self.keys.path) is not self.norm

    @property
    def queries(self) -> nn.Module | None:
        """Norm of the queries that meet these keys; None if the attention has none."""
        return descend(self.attention, self.attention_site.query_norm)

    @property
    def foreign_processor(self) -> str:
        """An attention processor from elsewhere, of which cannot be seen from outside whether it runs the key norm.

        Those of diffusers and of the blocks' own package are what the family describes.
        """
        processor = getattr(self.attention, "processor", None)
        is_called_as_module = type(processor).__call__ is nn.Module.__call__
        code = getattr(type(processor), "forward" if is_called_as_module else "__call__", None)
        module = getattr(code, "__module__", "diffusers")
        known = ("diffusers", type(self.block_module).__module__.partition(".")[0])
        is_foreign = processor is not None and module.partition(".")[0] not in known
        return f"{type(processor).__name__} of {module}" if is_foreign else ""


class Inserted(NamedTuple):
    """A neutral module where an attention has None, for an effect to act on."""

    parent: nn.Module
    name: str
    module: nn.Module

    def put_in(self) -> None:
        """Make it the parent's; it has no weights, so the state dict stays as it is."""
        setattr(self.parent, self.name, self.module)

    def take_out(self) -> None:
        """Give the parent its None back; doing it twice is fine."""
        if getattr(self.parent, self.name) is self.module:
            delattr(self.parent, self.name)
            setattr(self.parent, self.name, None)


def key_norms(host: Host, pipeline: Any = None) -> Iterator[NormLocation]:
    """Every key norm of a transformer, stack by stack, block by block. Norms that may be absent are passed over.

    Raises: UnsupportedModel if the family's description does not fit the transformer.
    """
    check_fit(host.family, host.transformer, pipeline)
    for stack in host.family.stacks_of(host.transformer, pipeline):
        for index, block in enumerate(blocks_of(host.transformer, stack.name)):
            for site in stack.sites:
                attention = descend(block, site.path)
                if attention is None or site.refusal or not site.is_in(index):
                    continue
                for keys in site.keys:
                    if (norm := norm_of(attention, keys)) is not None:
                        place = (host.name, stack.name, index, site.name)
                        yield NormLocation(*place, keys, norm, attention, site, block)


def norm_of(attention: nn.Module, keys: KeyNorm) -> nn.Module | None:
    """The norm of an attention; a neutral one, which is not there yet, if one may be put in; None if it has none."""
    norm = descend(attention, keys.path)
    return nn.Identity() if norm is None and keys.is_insertable else norm


def head_count(attention: nn.Module) -> int | None:
    """How many heads the queries of an attention have; None if it does not say."""
    names = ("heads", "num_heads", "n_heads")  # of diffusers, of Wan's own code, of Cosmos'
    heads = next((getattr(attention, name) for name in names if hasattr(attention, name)), None)
    return heads if isinstance(heads, int) else None


def holder_of(attention: nn.Module, keys: KeyNorm) -> tuple[nn.Module, str]:
    """The module that holds a norm of an attention, and the norm's attribute there."""
    path, _, name = keys.path.rpartition(".")
    parent = descend(attention, path) if path else attention
    return parent, name  # type: ignore[return-value]  # there, for the norm was found below it, or may be put in


def targets_of(host: Host, pipeline: Any = None) -> tuple[str, ...]:
    """Every target, `site.stream`, that exists in a transformer."""
    names = {f"{location.site}.{stream}" for location in key_norms(host, pipeline) for stream in location.keys.streams}
    return tuple(sorted(names - set(refusals_of(host, pipeline))))


def refusals_of(host: Host, pipeline: Any = None) -> dict[str, str]:
    """Why, by target, for those keys of a transformer that a gain cannot act on."""
    return {
        f"{site.name}.{stream}": site.refusal or dict(keys.refusals)[stream]
        for stack in host.family.stacks_of(host.transformer, pipeline)
        for site in stack.sites
        for keys in site.keys
        for stream in keys.streams
        if site.refusal or stream in dict(keys.refusals)
    }


def chosen_blocks(
    blocks: BlockSet, host: Host, pipeline: Any, sites: Container[str] | None = None
) -> dict[str, tuple[int, ...]]:
    """Indices by stack. An unqualified set means the main stacks that hold one of the sites (None: any), not the
    others.

    Raises: UnknownTarget if a stack or a block does not exist.
    """
    stacks = host.family.stacks_of(host.transformer, pipeline)
    names = [stack.name for stack in stacks]
    for name in blocks.stacks:
        if name not in names:
            raise UnknownTarget(
                f"`{name}` is not a stack of {type(host.transformer).__name__}; choose from {', '.join(names)}."
            )
    return {
        stack.name: blocks.indices(stack.name, len(blocks_of(host.transformer, stack.name)), is_main=stack.is_main)
        for stack in stacks
        if stack.name in blocks.stacks or sites is None or any(site.name in sites for site in stack.sites)
    }
