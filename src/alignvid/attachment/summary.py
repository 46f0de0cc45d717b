"""What can be said of a recipe that was laid over a model, once the model is gone: where, when and how it acts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from alignvid.attachment.placement import Placement
from alignvid.blocks import BlockSet
from alignvid.recipe import Recipe


class Places(NamedTuple):
    """Where one transformer is acted on, without holding it."""

    blocks: Mapping[str, str]
    """Ranges by stack."""
    site_count: int
    gains: Mapping[str, float]
    """By target, as the powers."""
    powers: Mapping[str, float]

    @classmethod
    def of(cls, placements: Sequence[Placement]) -> Places:
        """What can be said of some placements once the model is gone."""
        chosen: dict[str, set[int]] = {}
        for item in placements:
            chosen.setdefault(item.location.stack, set()).add(item.location.block)
        attentions = {(item.location.stack, item.location.block, item.location.site) for item in placements}
        return cls(
            {stack: str(BlockSet.of(sorted(blocks))) for stack, blocks in chosen.items()},
            len(attentions) if attentions else 1,
            {f"{item.location.site}.{stream}": gain for item in placements for stream, gain in item.gains},
            {f"{item.location.site}.{stream}": power for item in placements for stream, power in item.powers},
        )


@dataclass(frozen=True)
class Summary:
    """Of all transformers and modulations."""

    name: str
    """The preset's name, or words for a recipe without one."""
    recipe: Recipe
    """What was asked for."""
    places: Mapping[str, Places]
    """By transformer."""
    parts: Sequence[tuple[Recipe, Mapping[str, Places]]]
    """The same, modulation by modulation."""

    @classmethod
    def of(cls, name: str, recipe: Recipe, placed: Sequence[Mapping[str, Sequence[Placement]]]) -> Summary:
        """The summary of some placements: for each modulation, those of each transformer by its name."""
        hosts = dict.fromkeys(host for by_host in placed for host in by_host)
        places = {host: Places.of([item for by_host in placed for item in by_host.get(host, ())]) for host in hosts}
        parts = [
            (part, {host: Places.of(items) for host, items in by_host.items()})
            for part, by_host in zip(recipe.parts, placed, strict=True)
        ]
        return cls(name, recipe, places, parts)

    @property
    def gains(self) -> dict[str, float]:
        """Factor on the logits of the keys, by target; the largest one where the modulation is not a constant, and the
        product where several act.
        """
        gains: dict[str, float] = {}
        for _, by_host in self.parts:
            own = {target: gain for places in by_host.values() for target, gain in places.gains.items()}
            gains |= {target: gains.get(target, 1.0) * gain for target, gain in own.items()}
        return gains

    @property
    def actions(self) -> list[str]:
        """What happens to each target, such as "cross.text x1.35"."""
        return [action for part, by_host in self.parts for action in _actions(part, by_host)]

    @property
    def site_count(self) -> int:
        """Attentions that are acted on, in all transformers together; or inputs of transformers, if it is these."""
        return sum(places.site_count for places in self.places.values())

    @property
    def plan(self) -> str:
        """Where, when and how each modulation acts, in words."""
        return ", then ".join(_described(*part) for part in self.parts)

    def blocks(self, host: str) -> dict[str, str]:
        """Blocks that carry a gain, as ranges by stack, in the transformer of that name."""
        return dict(self.places[host].blocks)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a record."""
        return {
            "name": self.name,
            "recipe": self.recipe.to_dict(),
            "blocks": {host: self.blocks(host) for host in self.places},
            "gains": self.gains,
            "sites": self.site_count,
        }


def _actions(part: Recipe, by_host: Mapping[str, Places]) -> list[str]:
    """What one modulation does to each target."""
    powers = {target: power for places in by_host.values() for target, power in places.powers.items()}
    words = part.modulation.words
    return [f"{target} {words(power)}" for target, power in powers.items()] or [words(1.0)]


def _described(part: Recipe, by_host: Mapping[str, Places]) -> str:
    """Where, when and how one modulation acts."""
    where = "; ".join(
        f"{host} blocks {blocks} of `{stack}`" if stack else f"{host} input"
        for host, places in by_host.items()
        for stack, blocks in (places.blocks or {"": ""}).items()
    )
    return f"{where}; {part.steps}; CFG branch {part.branch}; {', '.join(_actions(part, by_host))}"
