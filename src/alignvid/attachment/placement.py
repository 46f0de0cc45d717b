"""A recipe laid over a model: which norms get which gains. Everything is resolved here, before anything is touched."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from alignvid.errors import UnknownTarget
from alignvid.models.family import UNCONDITIONAL, KeyNorm, Site
from alignvid.models.registry import Host
from alignvid.modulation import Modulation, split_target
from alignvid.recipe import Recipe
from alignvid.schedule import BlockSet

_MAY_BE_ABSENT = ("*.text", "*.vision", "*.image", "*.history")  # one recipe serves models with and without a reference


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
        """Somebody else's attention processor, of which nobody can tell from outside whether it runs the key norm."""
        processor = getattr(self.attention, "processor", None)
        code = getattr(type(processor), "forward" if isinstance(processor, nn.Module) else "__call__", None)
        module = getattr(code, "__module__", "diffusers")
        is_foreign = processor is not None and module.partition(".")[0] != "diffusers"
        return f"{type(processor).__name__} of {module}" if is_foreign else ""


@dataclass(frozen=True)
class Placement:
    """One key norm and how its streams are acted on."""

    location: NormLocation
    gains: tuple[tuple[str, float], ...]
    """Pairs of a stream and the factor on its keys, or the largest one that the modulation gives."""
    powers: tuple[tuple[str, float], ...]
    """Pairs of a stream and the power of gamma that it has."""

    @property
    def is_uniform(self) -> bool:
        """Whether all keys of the norm get the same gain, so that nothing need be split."""
        return len(self.gains) == len(self.location.keys.streams) and len({gain for _, gain in self.gains}) == 1


def key_norms(host: Host, pipeline: Any = None) -> Iterator[NormLocation]:
    """Every key norm of a transformer, stack by stack, block by block. Absent norms are passed over."""
    for stack in host.family.stacks_of(host.transformer, pipeline):
        for index, block in enumerate(getattr(host.transformer, stack.name)):
            for site in stack.sites:
                attention = descend(block, site.path)
                if attention is None or site.refusal or not site.is_in(index):
                    continue
                for keys in site.keys:
                    if (norm := norm_of(attention, keys)) is not None:
                        place = (host.name, stack.name, index, site.name)
                        yield NormLocation(*place, keys, norm, attention, site)


def norm_of(attention: nn.Module, keys: KeyNorm) -> nn.Module | None:
    """The norm of an attention; a neutral one, which is not there yet, if one may be put in; None if it has none."""
    norm = descend(attention, keys.path)
    return nn.Identity() if norm is None and keys.is_insertable else norm


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


def place(recipe: Recipe, host: Host, pipeline: Any = None) -> list[Placement]:
    """The norms that a recipe acts on in one transformer, with their gains; none if it does not act on keys.

    Raises: UnknownTarget if a stack, block, site or stream does not exist, or if nothing is matched.
    """
    if not recipe.modulation.powers:
        return []
    patterns = _pattern_by_target(recipe, host, targets_of(host, pipeline), refusals_of(host, pipeline))
    blocks = chosen_blocks(recipe.blocks, host, pipeline, {split_target(target)[0] for target in patterns})
    placements = []
    for location in key_norms(host, pipeline):
        if location.block in blocks.get(location.stack, ()):
            named = [(stream, patterns.get(f"{location.site}.{stream}")) for stream in location.keys.streams]
            if chosen := [(stream, pattern) for stream, pattern in named if pattern is not None]:
                placements.append(_placement(location, chosen, recipe.modulation))
    _refuse_idle_targets(patterns, placements, recipe, host)
    return placements


def place_in_all(recipe: Recipe, hosts: Sequence[Host], pipeline: Any = None) -> dict[str, list[Placement]]:
    """The norms that a recipe acts on, by transformer. What only another one has is not missed in a transformer (the
    unconditional one of Ideogram has no text), and a transformer that has nothing of the recipe is left out.

    Raises: UnknownTarget as `place`, and where the recipe is for the unconditional pass and its transformer has none.
    """
    powers = recipe.modulation.powers
    matched = {host.name: _matched(powers, targets_of(host, pipeline)) for host in hosts}
    somewhere = set().union(*matched.values())
    placements = {}
    for host in hosts:
        elsewhere = somewhere - matched[host.name]
        if matched[host.name] or not somewhere:
            own = {pattern: power for pattern, power in powers.items() if pattern not in elsewhere}
            placements[host.name] = place(recipe.override(powers=own) if elsewhere else recipe, host, pipeline)
    if recipe.branch == "uncond" and UNCONDITIONAL in matched and UNCONDITIONAL not in placements:
        _refuse_idle_branch(powers)
    return placements


def _refuse_idle_branch(patterns: Iterable[str]) -> None:
    raise UnknownTarget(
        f"The unconditional pass of this pipeline has a transformer of its own, without {', '.join(patterns)}: a gain "
        'in branch "uncond" alone would do nothing. Choose branch "cond" or "both", or other streams.'
    )


def _matched(patterns: Iterable[str], targets: Sequence[str]) -> set[str]:
    return {pattern for pattern in patterns if any(_covers(pattern, target) for target in targets)}


def powers_for_streams(
    streams: Iterable[str] | Mapping[str, float],
    powers: Mapping[str, float],
    targets: Sequence[str],
    refusals: Mapping[str, str],
) -> dict[str, float]:
    """Powers of gamma for the streams that a user names, taking them from the recipe where it has them.

    "cross.text" names a target; "text" names that stream at the recipe's own sites, or everywhere if it has none there.
    A mapping gives the powers itself.
    Raises: UnknownTarget if no such stream exists.
    """
    given = streams if isinstance(streams, Mapping) else {}
    names = [streams] if isinstance(streams, str) or not isinstance(streams, Iterable) else list(streams)
    if not_names := [name for name in names if not isinstance(name, str)]:
        raise UnknownTarget(f"{not_names[0]!r} is not a stream's name; choose from {', '.join(targets)}.")
    chosen: dict[str, float] = {}
    for name in names:
        for target in [name] if "." in name else _targets_of_stream(name, powers, targets, refusals):
            inherited = next((power for known, power in powers.items() if _covers(known, target)), 1.0)
            chosen[target] = given.get(name, inherited)
    if not chosen:
        raise UnknownTarget(f"The list of streams is empty; choose from {', '.join(targets)}.")
    return chosen


def _targets_of_stream(
    stream: str, powers: Mapping[str, float], targets: Sequence[str], refusals: Mapping[str, str]
) -> list[str]:
    everywhere = [target for target in targets if split_target(target)[1] == stream]
    if not everywhere:
        known = sorted({split_target(target)[1] for target in targets})
        raise UnknownTarget(
            f"{stream!r} is not a stream of this model; choose from {', '.join(known)}. "
            f"{_reason(f'*.{stream}', refusals)}".rstrip()
        )
    sites = {split_target(target)[0] for target in powers}
    return [target for target in everywhere if split_target(target)[0] in sites] or everywhere


def _placement(location: NormLocation, chosen: Sequence[tuple[str, str]], modulation: Modulation) -> Placement:
    return Placement(
        location,
        gains=tuple((stream, modulation.gain(pattern)) for stream, pattern in chosen),
        powers=tuple((stream, modulation.powers[pattern]) for stream, pattern in chosen),
    )


def _pattern_by_target(
    recipe: Recipe, host: Host, targets: Sequence[str], refusals: Mapping[str, str]
) -> dict[str, str]:
    """The recipe's name for each target that it acts on, stars expanded. A more exact name wins over a star, so that
    "*.text" can be the rule and "cross.text" the exception.
    """
    patterns: dict[str, str] = {}
    for pattern in sorted(recipe.modulation.powers, key=lambda name: -name.count("*")):
        matched = [target for target in targets if _covers(pattern, target)]
        if not matched and pattern not in _MAY_BE_ABSENT:
            raise UnknownTarget(
                f"{pattern!r} is not a target of {type(host.transformer).__name__}; choose from {', '.join(targets)}. "
                f"{_reason(pattern, refusals) or recipe.modulation.requirement}".rstrip()
            )
        patterns.update(dict.fromkeys(matched, pattern))
    if not patterns:
        wanted = ", ".join(recipe.modulation.powers)
        raise UnknownTarget(
            f"{type(host.transformer).__name__} has no target that matches {wanted}; choose from {', '.join(targets)}."
        )
    return patterns


def _reason(pattern: str, refusals: Mapping[str, str]) -> str:
    """Why what a pattern covers was refused; empty if nothing was."""
    return next((reason for target, reason in refusals.items() if _covers(pattern, target)), "")


def _covers(pattern: str, target: str) -> bool:
    pairs = zip(split_target(pattern), split_target(target), strict=True)
    return all(wanted in ("*", actual) for wanted, actual in pairs)


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
        stack.name: blocks.indices(stack.name, len(getattr(host.transformer, stack.name)), is_main=stack.is_main)
        for stack in stacks
        if stack.name in blocks.stacks or sites is None or any(site.name in sites for site in stack.sites)
    }


def _refuse_idle_targets(
    patterns: Mapping[str, str], placements: Sequence[Placement], recipe: Recipe, host: Host
) -> None:
    """A target named exactly must be met in the chosen blocks; doing nothing silently is a bug."""
    used = {f"{item.location.site}.{stream}" for item in placements for stream, _ in item.powers}
    exact = {target for target in patterns if target in recipe.modulation.powers}
    if not used or exact - used:
        idle = ", ".join(sorted(exact - used or patterns))
        raise UnknownTarget(
            f"No chosen block of {type(host.transformer).__name__} has {idle}; "
            f"the blocks are {recipe.blocks}. Choose blocks of another stack, or other streams."
        )


def descend(module: nn.Module, path: str) -> nn.Module | None:
    """The module at a dotted path below another; None if there is none."""
    for name in path.split(".") if path else ():
        module = getattr(module, name, None)  # type: ignore[assignment]  # None ends the walk below
        if module is None:
            return None
    return module
