"""A recipe laid over a model: which norms get which gains. Everything is resolved here, before anything is touched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from alignvid.errors import RecipeError, UnknownTarget
from alignvid.host.sites import NormLocation, chosen_blocks, key_norms, refusals_of, targets_of
from alignvid.host.transformers import Host
from alignvid.models.family import UNCONDITIONAL
from alignvid.modulation import INNER_STREAMS, Modulation, split_target
from alignvid.recipe import Recipe

_MAY_BE_ABSENT = ("*.text", "*.vision", "*.image", "*.history")  # one recipe serves models with and without a reference


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
        streams = {stream for stream, _ in self.gains}
        return streams == set(self.location.keys.streams) and len({gain for _, gain in self.gains}) == 1


def _all_targets(host: Host, pipeline: Any) -> tuple[str, ...]:
    """Every target of a transformer, with the parts of the text."""
    targets = targets_of(host, pipeline)
    sites = [site for site, stream in map(split_target, targets) if stream == "text"]
    return (*targets, *(f"{site}.{stream}" for site in sites for stream in INNER_STREAMS))


def _refuse_inner_streams(modulation: Modulation) -> None:
    named = [target for target in modulation.powers if split_target(target)[1] in INNER_STREAMS]
    if named and not modulation.takes_inner_streams:
        raise UnknownTarget(
            f"A modulation of kind {modulation.kind!r} acts on whole streams, and {named[0]} is a part of the text; "
            "choose the text, or a modulation of kind 'scalar', 'log-bias' or 'emphasis'."
        )


def with_firsts(placements: Iterable[Placement]) -> Iterator[tuple[Placement, bool]]:
    """Each placement, and whether it is the first of its attention, the one that stands for it in counts."""
    before = None
    for placement in placements:
        yield placement, placement.location.attention is not before
        before = placement.location.attention


def place(recipe: Recipe, host: Host, pipeline: Any = None) -> list[Placement]:
    """The norms that a recipe acts on in one transformer, with their gains; none if it does not act on keys.

    Raises: UnknownTarget if a stack, block, site or stream does not exist, or if nothing is matched.
    """
    if not recipe.modulation.powers:
        return []
    _refuse_inner_streams(recipe.modulation)
    patterns = _pattern_by_target(recipe, host, _all_targets(host, pipeline), refusals_of(host, pipeline))
    blocks = chosen_blocks(recipe.blocks, host, pipeline, {split_target(target)[0] for target in patterns})
    placements = []
    for location in key_norms(host, pipeline):
        if location.block in blocks.get(location.stack, ()):
            streams = location.keys.streams + (INNER_STREAMS if "text" in location.keys.streams else ())
            named = [(stream, patterns.get(f"{location.site}.{stream}")) for stream in streams]
            if chosen := [(stream, pattern) for stream, pattern in named if pattern is not None]:
                placements.append(_placement(location, chosen, recipe.modulation))
    _refuse_idle_targets(patterns, placements, recipe, host)
    return placements


def place_parts(recipe: Recipe, hosts: Sequence[Host], pipeline: Any = None) -> list[dict[str, list[Placement]]]:
    """The norms that each modulation of a recipe acts on, by transformer.

    Raises: UnknownTarget as `place_in_all`; RecipeError for modulations that cannot act on the same attention.
    """
    placed = [place_in_all(part, hosts, pipeline) for part in recipe.parts]
    _refuse_together(recipe, placed)
    norms: dict[tuple[int, str], Any] = {}  # a neutral norm that is put in serves all parts
    return [
        {host: [_with_shared_norm(item, norms) for item in items] for host, items in by_host.items()}
        for by_host in placed
    ]


def _with_shared_norm(item: Placement, norms: dict[tuple[int, str], Any]) -> Placement:
    where = item.location
    norm = norms.setdefault((id(where.attention), where.keys.path), where.norm)
    return item if norm is where.norm else replace(item, location=where._replace(norm=norm))


def _refuse_together(recipe: Recipe, placed: Sequence[Mapping[str, Sequence[Placement]]]) -> None:
    """Keys that are computed in advance, for a gain on queries, cannot be changed by another modulation meanwhile."""
    met: dict[int, bool] = {}
    for part, by_host in zip(recipe.parts, placed, strict=True):
        kind = part.modulation.kind
        attentions = {id(item.location.attention): item.location for items in by_host.values() for item in items}
        for key, where in attentions.items():
            if key in met and (part.modulation.looks_ahead or met[key]):
                raise RecipeError(
                    f"A modulation of kind {kind!r} and another act on the same attention, {where.site!r} of block "
                    f"{where.block} of `{where.stack}`: conflict-aware scaling looks at keys before they pass their "
                    "norm, where the other changes them. Give them different blocks or sites."
                )
        met |= dict.fromkeys(attentions, part.modulation.looks_ahead)
    _refuse_beside_repeated(recipe, placed)


def _refuse_beside_repeated(recipe: Recipe, placed: Sequence[Mapping[str, Sequence[Placement]]]) -> None:
    """Where a norm runs on a second text, what else is on it may be one factor for whole streams alone."""
    norms = [
        (part.modulation, {_norm_key(item): item for items in by_host.values() for item in items})
        for part, by_host in zip(recipe.parts, placed, strict=True)
    ]
    for repeating, where in ((kind, items) for kind, items in norms if kind.repeats_norm):
        for other, items in norms:
            shared = [item for key, item in items.items() if key in where]
            has_parts = any(stream in INNER_STREAMS for item in shared for stream, _ in item.powers)
            if other is not repeating and shared and (has_parts or not other.is_uniform):
                raise RecipeError(
                    f"A modulation of kind {other.kind!r} on {shared[0].location.site!r} cannot stand beside one of "
                    f"kind {repeating.kind!r}, whose negative text passes the same norm: only a scalar gain on whole "
                    "streams can. Give them different blocks or sites."
                )


def _norm_key(item: Placement) -> tuple[int, str]:
    return id(item.location.attention), item.location.keys.path


def place_in_all(recipe: Recipe, hosts: Sequence[Host], pipeline: Any = None) -> dict[str, list[Placement]]:
    """The norms that a recipe acts on, by transformer. What only another one has is not missed in a transformer (the
    unconditional one of Ideogram has no text), and a transformer that has nothing of the recipe is left out.

    Raises: UnknownTarget as `place`, and where the recipe is for the unconditional pass and its transformer has none.
    """
    powers = recipe.modulation.powers
    matched = {host.name: _matched(powers, _all_targets(host, pipeline)) for host in hosts}
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
    pairs = list(zip(split_target(pattern), split_target(target), strict=True))
    wanted, actual = pairs[1]
    if actual in INNER_STREAMS and wanted != actual:
        return False
    return all(wanted in ("*", actual) for wanted, actual in pairs)


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
