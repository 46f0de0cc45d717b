"""From the softmaxes of one attention to the facts of a trace: means over the queries of each stream."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from alignvid.analysis.facts import AttentionMap, Fact
from alignvid.analysis.maps import ChosenKeys, as_frames, attention_to_keys
from alignvid.analysis.measures import AttentionMeasures, attention_measures, pooled_mass
from alignvid.analysis.sites import ObservedSite, Softmax, Stream, split_streams
from alignvid.analysis.trace import Trace
from alignvid.errors import ObservationError
from alignvid.host.branches import Pass


@dataclass(frozen=True)
class ForwardPlace:
    """Where in a run a transformer's forward lies."""

    section: int
    step: int
    noise_level: float
    running: Pass
    batch_order: tuple[str, ...]
    """Branches in the order in which a batch holds them, where it holds several."""
    token_counts: Mapping[str, int]
    grid: tuple[int, int]
    """Height and width of a latent frame in tokens; used for maps only."""

    def branches(self, batch: int) -> dict[str, slice]:
        """Samples of each CFG branch."""
        if self.running != "batched":
            return {self.running: slice(0, batch)}
        size, order = batch // len(self.batch_order), self.batch_order
        return {part: slice(order.index(part) * size, (order.index(part) + order.count(part)) * size) for part in order}


class Passage(NamedTuple):
    """One pass of a forward through one site."""

    site: ObservedSite
    softmaxes: list[Softmax]
    place: ForwardPlace

    @property
    def kind(self) -> Hashable:
        """Equal for those that can be measured in one go: one site of several blocks, in one forward, without masks."""
        if any(softmax.call.mask is not None for softmax in self.softmaxes):
            return id(self)
        shapes = [(item.keys, item.call.query.shape, item.call.key.shape, item.call.scale) for item in self.softmaxes]
        return (self.site.host, self.site.stack, self.site.site, id(self.place), *shapes)

    @property
    def byte_count(self) -> int:
        """Memory that its queries and keys keep."""
        return sum(softmax.call.query.nbytes + softmax.call.key.nbytes for softmax in self.softmaxes)

    @property
    def not_finite(self) -> str:
        """The beginning of what is said where it cannot be measured."""
        step, level = self.place.step, self.place.noise_level
        when = f"step {step}" if step >= 0 else f"noise level {level:.3g}"
        return f"NaN or infinity in attention {self.site} of the {self.site.host} at {when}:"


@runtime_checkable
class Recorder(Protocol):
    """What an observation does with the passages that it overhears."""

    @property
    def needs_grid(self) -> bool:
        """Whether passages must say how the tokens of a latent frame lie."""
        ...

    def record(self, passages: Sequence[Passage]) -> None:
        """Note some passages, in the order in which they happened."""
        ...


@dataclass(frozen=True)
class FactRecorder:
    """Writes facts, and maps of the chosen keys, into a trace."""

    trace: Trace
    per_head: bool
    """Whether to keep every head's value."""
    chosen: Mapping[str, ChosenKeys]
    """Keys to make maps of, by name."""

    @property
    def needs_grid(self) -> bool:
        """Maps do."""
        return bool(self.chosen)

    def record(self, passages: Sequence[Passage]) -> None:
        """Measure the passages, those of one kind together. One that is not finite becomes a problem of the trace."""
        facts: dict[int, list[Fact]] = {}
        for kind in dict.fromkeys(passage.kind for passage in passages):
            alike = [passage for passage in passages if passage.kind == kind]
            facts.update(zip(map(id, alike), facts_of(alike, per_head=self.per_head), strict=True))
        for passage in passages:
            if all(is_finite(fact) for fact in facts[id(passage)]):
                self.trace.facts += facts[id(passage)]
                self.trace.maps += maps_of(passage, self.chosen)
            else:
                self._note_problem(passage)

    def _note_problem(self, passage: Passage) -> None:
        problem = f"{passage.not_finite} it is left out of the trace."
        if not self.trace.problems:
            warnings.warn(f"{problem} What came before is kept; later ones are in trace.problems.", stacklevel=2)
        self.trace.problems.append(problem)


class Columns(NamedTuple):
    """Measures per query, side by side, with their names."""

    names: list[tuple[str, str] | None]
    """The `keys` and the `measure` of a fact for each column; None for one that is not recorded."""
    values: Float[Tensor, "batch head query column"]


def facts_of(passages: Sequence[Passage], *, per_head: bool) -> list[list[Fact]]:
    """The facts of each passage, all of one kind. One whose value is not finite is among them; see `is_finite`.

    Measured together, because a small model has many small attentions: there the calls cost more than the numbers.
    """
    site, softmaxes, place = passages[0]
    measured = [_measured([passage.softmaxes[index] for passage in passages]) for index in range(len(softmaxes))]
    columns, is_counted = _columns(softmaxes, measured), _counted_queries(site, softmaxes, measured)
    facts: list[list[Fact]] = [[] for _ in passages]
    for stream, queries in slices_of(query_streams(site, softmaxes[0], place.token_counts)).items():
        means = _mean_over_queries(columns.values, is_counted, queries)
        for passage, own, mean in zip(passages, facts, means.chunk(len(passages)), strict=True):
            own += _facts_of_means(passage.site, stream, columns.names, mean, place, per_head)
    return facts


def maps_of(passage: Passage, chosen: Mapping[str, ChosenKeys]) -> list[AttentionMap]:
    """A map of the video tokens for each choice whose keys take part in one of the softmaxes."""
    site, softmaxes, place = passage
    made = []
    for softmax in softmaxes:
        queries = slices_of(query_streams(site, softmax, place.token_counts)).get("video")
        for name, choice in chosen.items():
            keys = slices_of(softmax.keys).get(choice.stream)
            if queries is not None and keys is not None:
                columns = [keys.start + position for position in _checked(name, choice, keys)]
                made += _maps_of_choice(site, softmax, place, name, queries, columns)
    return made


def query_streams(site: ObservedSite, softmax: Softmax, token_counts: Mapping[str, int]) -> tuple[Stream, ...]:
    """Streams of the queries of a softmax, in order."""
    count = softmax.call.query.shape[2]
    if site.has_own_queries:
        return _last(softmax.keys, count, site)
    return split_streams(site.query_names, count, token_counts)


def _last(streams: tuple[Stream, ...], count: int, site: ObservedSite) -> tuple[Stream, ...]:
    """The streams at the end that have so many tokens: Cosmos 3's text, at the beginning, asks in a softmax of its own.

    Raises: ObservationError if there are none.
    """
    first = next((i for i in range(len(streams)) if sum(one.length for one in streams[i:]) == count), None)
    if first is None:
        raise ObservationError(
            f"Attention {site} has {count} queries but {sum(stream.length for stream in streams)} keys "
            f"({', '.join(stream.name for stream in streams)}): the family does not say which stream asks. Set "
            "Site.queries, or put self-attention first in the stack."
        )
    return streams[first:]


def is_finite(fact: Fact) -> bool:
    """Whether the numbers of a fact can be used; they cannot where an activation was NaN or infinite."""
    return all(math.isfinite(value) for value in fact.values)


def _measured(softmaxes: Sequence[Softmax]) -> AttentionMeasures:
    """The measures of softmaxes of equal shape, one after the other along the batch axis."""
    first = softmaxes[0].call
    query, key = first.query, first.key
    if len(softmaxes) > 1:
        query = torch.cat([softmax.call.query for softmax in softmaxes])
        key = torch.cat([softmax.call.key for softmax in softmaxes])
    lengths = [stream.length for stream in softmaxes[0].keys]
    return attention_measures(query, key, stream_lengths=lengths, mask=first.mask, scale=first.scale)


def _columns(softmaxes: Sequence[Softmax], measured: Sequence[AttentionMeasures]) -> Columns:
    """The measures of all softmaxes of a site: they have the same queries, so one mean serves them all."""
    wholes = ["+".join(stream.name for stream in softmax.keys) for softmax in softmaxes]
    names: list[tuple[str, str] | None] = []
    for softmax, keys in zip(softmaxes, wholes, strict=True):
        names += [(keys, "entropy"), (keys, "variance"), (keys, "slope"), (keys, "energy"), None, None]
        names += [(keys, "normalised_entropy"), *((stream.name, "mass") for stream in softmax.keys)]
    if len(measured) == 1:
        return Columns(names, measured[0].values)
    pooled = pooled_mass(torch.stack([item.log_sum_exp for item in measured])).movedim(0, -1)
    names += [(keys, "pooled_mass") for keys in wholes]
    return Columns(names, torch.cat([*(item.values for item in measured), pooled], -1))


def _counted_queries(
    site: ObservedSite, softmaxes: Sequence[Softmax], measured: Sequence[AttentionMeasures]
) -> Bool[Tensor, "batch head query"] | None:
    """Queries that a mean is taken over, those that may look at something; None for all.

    A token that no query may look at is padding: as a query it does not count either.
    """
    masks = [softmax.call.mask for softmax in softmaxes]
    if all(mask is None for mask in masks):
        return None
    is_counted = torch.stack([item.key_count > 0 for item in measured]).all(0)
    mask = masks[0]
    if mask is None or not site.has_own_queries:
        return is_counted
    is_for_all_queries = mask.dtype == torch.bool and mask.ndim == 4 and mask.shape[2] == 1 and mask.shape[3] > 1
    return is_counted & mask[:, :, 0] if is_for_all_queries else is_counted


def _mean_over_queries(
    values: Float[Tensor, "batch head query column"],
    is_counted: Bool[Tensor, "batch head query"] | None,
    queries: slice,
) -> Float[Tensor, "batch head column"]:
    if is_counted is None:
        return values[:, :, queries].mean(2)
    is_counted = is_counted[:, :, queries].unsqueeze(-1)
    return values[:, :, queries].where(is_counted, 0.0).sum(2) / is_counted.sum(2)


def _facts_of_means(
    site: ObservedSite,
    stream: str,
    names: Sequence[tuple[str, str] | None],
    means: Float[Tensor, "batch head column"],
    place: ForwardPlace,
    per_head: bool,
) -> list[Fact]:
    facts = []
    for branch, samples in place.branches(len(means)).items():
        by_head = means[samples].mean(0) if per_head else means[samples].mean((0, 1)).unsqueeze(0)
        start = (*site[:4], place.section, place.step, place.noise_level, branch, stream)
        rows = zip(names, by_head.T.tolist(), strict=True)
        facts += [Fact(*start, *name, tuple(values)) for name, values in rows if name is not None]
    return facts


def _maps_of_choice(
    site: ObservedSite, softmax: Softmax, place: ForwardPlace, name: str, queries: slice, columns: Sequence[int]
) -> list[AttentionMap]:
    call = softmax.call
    mask = call.mask if call.mask is None or call.mask.shape[-2] == 1 else call.mask[..., queries, :]
    shares = attention_to_keys(call.query[:, :, queries], call.key, chosen=columns, mask=mask, scale=call.scale)
    return [
        AttentionMap(name, *site[:4], place.section, place.step, branch, as_frames(shares[samples].mean(0), place.grid))
        for branch, samples in place.branches(len(shares)).items()
    ]


def _checked(name: str, choice: ChosenKeys, keys: slice) -> Sequence[int]:
    length = keys.stop - keys.start
    if wrong := [position for position in choice.positions if not 0 <= position < length]:
        raise ObservationError(
            f"Key {wrong[0]} of {name!r} does not exist: the stream {choice.stream} has keys 0 to {length - 1}."
        )
    return choice.positions


def slices_of(streams: Sequence[Stream]) -> dict[str, slice]:
    """Where each stream lies on the sequence axis."""
    ends = accumulate(stream.length for stream in streams)
    return {stream.name: slice(end - stream.length, end) for stream, end in zip(streams, ends, strict=True)}
