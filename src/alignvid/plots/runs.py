"""From traces to arrays that can be drawn: which attentions there are, and a number for each block and step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from alignvid.analysis.facts import Fact
from alignvid.analysis.trace import Trace
from alignvid.errors import PictureError

Runs = Mapping[str, Sequence[Trace]]
"""Traces to be compared, by what was done in the run: one trace for each sample (prompt, picture and seed)."""

AXES = ("block", "step")


class Attention(NamedTuple):
    """What one panel shows: the queries of a stream, at one site of one stack, and the keys they look at."""

    host: str
    stack: str
    site: str
    query: str
    keys: str


class Grid(NamedTuple):
    """A measure of one attention in all runs of a kind."""

    blocks: tuple[int, ...]
    steps: tuple[int, ...]
    values: Float64[np.ndarray, "sample block step"]
    """Means over heads, CFG branches and sections; NaN where nothing was recorded."""


def attentions(runs: Runs, measure: str, *, query: str = "video") -> list[Attention]:
    """The attentions of which every kind of run has this measure, in the order of stacks and sites.

    Raises: PictureError if there is none, or a number in a trace is NaN or infinite.
    """
    if not runs or not all(runs.values()):
        raise PictureError("There is no trace to draw; give at least one for each kind of run.")
    found: list[set[Attention]] = []
    for label, traces in runs.items():
        for trace in traces:
            check_finite(trace, label)
        found.append({_attention_of(fact) for trace in traces for fact in trace.facts if fact.measure == measure})
    common = sorted(attention for attention in set.intersection(*found) if attention.query == query)
    if not common:
        there = sorted({fact.measure for traces in runs.values() for trace in traces for fact in trace.facts})
        raise PictureError(
            f"The traces have no {measure!r} of {query} queries in common; they have {', '.join(there) or 'nothing'}."
        )
    return common


def grid(traces: Sequence[Trace], attention: Attention, measure: str) -> Grid:
    """One measure of one attention, sample by sample."""
    cells: dict[tuple[int, int, int], list[float]] = {}
    for sample, trace in enumerate(traces):
        for fact in trace.facts:
            if fact.measure == measure and _attention_of(fact) == attention:
                cells.setdefault((sample, fact.block, fact.step), []).extend(fact.values)
    blocks, steps = (tuple(sorted({place[axis] for place in cells})) for axis in (1, 2))
    values = np.full((len(traces), len(blocks), len(steps)), np.nan)
    for (sample, block, step), numbers in cells.items():
        values[sample, blocks.index(block), steps.index(step)] = sum(numbers) / len(numbers)
    return Grid(blocks, steps, values)


def title(attention: Attention, among: Sequence[Attention]) -> str:
    """What a panel is called: as little as distinguishes it from the others."""
    place = [attention.host] if len({item.host for item in among}) > 1 else []
    place += [attention.stack] if len({(item.host, item.stack) for item in among}) > len(place) + 1 else []
    place += [attention.site]
    keys = "all" if attention.keys.count("+") > 1 else attention.keys
    return f"{' · '.join(place)}: {attention.query} → {keys}"


def check_finite(trace: Trace, name: str) -> None:
    """Raises: PictureError if the trace is empty, or a number in it is missing, NaN or infinite."""
    if not trace.facts:
        reason = f" (first problem: {trace.problems[0]})" if trace.problems else ""
        raise PictureError(f"The trace {name!r} holds nothing to draw{reason}; observe a run again.")
    for fact in trace.facts:
        if not fact.values or not all(math.isfinite(value) for value in fact.values):
            raise PictureError(
                f"The trace {name!r} has NaN or infinity as {fact.measure} of block {fact.block} at step {fact.step}; "
                "observe the run again, with finite activations."
            )


def _attention_of(fact: Fact) -> Attention:
    return Attention(fact.host, fact.stack, fact.site, fact.query, fact.keys)
