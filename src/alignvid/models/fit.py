"""Does a family's description fit a model? What the model lacks is named before anything is touched."""

from __future__ import annotations

from typing import Any

from torch import nn

from alignvid.errors import UnsupportedModel
from alignvid.models.family import Family, Site
from alignvid.models.paths import blocks_of, descend, parts_of


def check_fit(family: Family, transformer: nn.Module, pipeline: Any = None) -> None:
    """Every stack, attention and norm that a family describes is there, but for those that it says may be missing.

    Raises: UnsupportedModel naming the first that is not, and what the model has in its place.
    """
    for stack in family.stacks_of(transformer, pipeline):
        for index, block in enumerate(blocks_of(transformer, stack.name)):
            where = f"Block {index} of `{stack.name}` in {type(transformer).__name__}"
            for site in stack.sites:
                if site.is_in(index) and not site.refusal:
                    _check_site(family, site, block, where)


def _check_site(family: Family, site: Site, block: nn.Module, where: str) -> None:
    attention = descend(block, site.path)
    if attention is None:
        if site.is_optional:
            return
        raise UnsupportedModel(
            f"{where} has no `{site.path}`, where the family {family.name} describes the attention {site.name}; it has "
            f"{parts_of(block)}. Correct the path, give Site.blocks the blocks that hold it, or set is_optional."
        )
    for keys in site.keys:
        if descend(attention, keys.path) is None and not (keys.is_optional or keys.is_insertable):
            raise UnsupportedModel(
                f"{where} has no `{keys.path}` in its attention {site.name}, where the family {family.name} describes "
                f"the keys of {', '.join(keys.streams)}; it has {parts_of(attention)}. Correct the path, or set "
                "is_optional."
            )
