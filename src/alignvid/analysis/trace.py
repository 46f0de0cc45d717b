"""Trace: what was observed in a run, one row per fact, with its own file format. Needs numpy, not torch.

    trace = Trace.load("before.trace")
    grid = trace.where(site="cross", query="video", keys="text").mean("entropy", by=("block", "step"))
    change = trace.compare(Trace.load("after.trace"))       # after minus before, fact by fact

`MEASURES` in facts.py says what each measure is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from alignvid.analysis.facts import MEASURES, AttentionMap, Fact
from alignvid.analysis.trace_file import decoded, encoded
from alignvid.errors import TraceError
from alignvid.files import write_bytes


class Averages(NamedTuple):
    """Means of a measure over everything but some axes."""

    axes: tuple[str, ...]
    labels: tuple[tuple[Any, ...], ...]
    """What stands along each axis, ascending."""
    values: Float64[np.ndarray, "*axes"]
    """One axis per name; NaN where nothing was recorded."""


@dataclass(repr=False)
class Trace:
    """Facts of one run, in the order in which they happened. Printing it says what there is.

    Examples:
        >>> with alignvid.observe(pipe, blocks=[0], steps=(0.0, 0.5)) as trace:
        ...     frames = pipe(image, "add a green circle at the top left", **size).frames[0]
        >>> trace.where(keys="text").mean("entropy", by=("block",)).labels
        ((0,),)
        >>> len(trace.where(step=0).facts) < len(trace.facts)
        True
    """

    origin: Mapping[str, Any]
    """Where the facts come from: the models, the versions, what was attached. Plain data."""
    facts: list[Fact] = field(default_factory=list)
    maps: list[AttentionMap] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What could not be measured, one sentence each."""

    def where(
        self,
        *,
        host: str | None = None,
        stack: str | None = None,
        block: int | Iterable[int] | None = None,
        site: str | None = None,
        section: int | None = None,
        step: int | Iterable[int] | None = None,
        branch: str | None = None,
        query: str | None = None,
        keys: str | None = None,
    ) -> Trace:
        """The part of the trace that has these values; None takes all.

        Raises: TraceError if there is none, naming the values that exist.
        """
        facts, maps = self.facts, self.maps
        wanted = {"host": host, "stack": stack, "block": block, "site": site, "section": section, "step": step}
        for name, value in (wanted | {"branch": branch, "query": query, "keys": keys}).items():
            if value is None:
                continue
            allowed = {value} if isinstance(value, str | int) else set(value)
            kept = [fact for fact in facts if getattr(fact, name) in allowed]
            if not kept:
                there = ", ".join(str(item) for item in sorted({getattr(fact, name) for fact in facts}))
                raise TraceError(f"The trace has no {name} {value!r} there; it has {there or 'nothing'}.")
            facts = kept
            if name in AttentionMap._fields:
                maps = [item for item in maps if getattr(item, name) in allowed]
        return Trace(self.origin, facts, maps, self.problems)

    def mean(self, measure: str, *, by: Sequence[str] = ("block", "step")) -> Averages:
        """Means of a measure, with one axis per name in `by`: any field of a fact, or "head".

        Raises: TraceError if the measure was not recorded, or an axis does not exist.
        """
        _check_names(measure, by)
        sums: dict[tuple[Any, ...], list[float]] = {}
        for fact in self.facts:
            if fact.measure == measure:
                for head, value in enumerate(fact.values):
                    place = tuple(head if axis == "head" else getattr(fact, axis) for axis in by)
                    total = sums.setdefault(place, [0.0, 0])
                    total[0] += value
                    total[1] += 1
        if not sums:
            raise TraceError(f"The trace has no {measure!r} there; it has {', '.join(self.measures) or 'nothing'}.")
        labels = tuple(tuple(sorted(set(column))) for column in zip(*sums, strict=True))
        values = np.full([len(column) for column in labels], np.nan)
        for place, (total, count) in sums.items():
            values[tuple(column.index(item) for column, item in zip(labels, place, strict=True))] = total / count
        return Averages(tuple(by), labels, values)

    def compare(self, other: Trace) -> Trace:
        """The other trace minus this one, for every fact that both have.

        Raises: TraceError if the other one is of another model, or they share no fact.
        """
        _check_same_models(self, other)
        here = {fact.place: fact for fact in self.facts}
        changes = [
            fact._replace(
                values=tuple(new - old for new, old in zip(fact.values, here[fact.place].values, strict=True))
            )
            for fact in other.facts
            if fact.place in here and len(fact.values) == len(here[fact.place].values)
        ]
        if not changes:
            raise TraceError("The two traces share no fact: observe the same blocks, steps and heads in both runs.")
        return Trace({**self.origin, "minus": dict(other.origin)}, changes)

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of what was recorded, in the order of `MEASURES`."""
        present = {fact.measure for fact in self.facts}
        return tuple(name for name in MEASURES if name in present)

    def save(self, path: str | Path) -> None:
        """Write one safetensors file; it appears under its name only when it is complete. Raises: OutputError."""
        write_bytes(Path(path), self.to_bytes())

    def to_bytes(self) -> bytes:
        """What `save` writes."""
        return encoded(self.origin, self.facts, self.maps, self.problems)

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Read a file written by `save`. Raises: TraceError if it is missing, cut short or of another version."""
        return cls(*decoded(Path(path)))

    def __repr__(self) -> str:
        blocks = sorted({(fact.stack, fact.block) for fact in self.facts})
        steps = sorted({(fact.section, fact.step) for fact in self.facts})
        problems = f"; {len(self.problems)} problems, first: {self.problems[0]}" if self.problems else ""
        return (
            f"Trace of {', '.join(self.origin.get('models', {}))}: {len(self.facts)} facts "
            f"({', '.join(self.measures)}) from {len(blocks)} blocks at {len(steps)} steps, {len(self.maps)} maps"
            f"{problems}"
        )


def _check_names(measure: str, by: Sequence[str]) -> None:
    if measure not in MEASURES:
        raise TraceError(f"{measure!r} is not a measure; choose from {', '.join(MEASURES)}.")
    axes = (*Fact._fields[:10], "head")
    if wrong := [axis for axis in by if axis not in axes]:
        raise TraceError(f"{wrong[0]!r} is not an axis of a trace; choose from {', '.join(axes)}.")


def _check_same_models(first: Trace, second: Trace) -> None:
    models, others = first.origin.get("models", {}), second.origin.get("models", {})
    for host in sorted(set(models) | set(others)):
        one, other = models.get(host), others.get(host)
        if one is None or other is None or one["transformer"] != other["transformer"]:
            names = [model["transformer"] if model else "none" for model in (one, other)]
            raise TraceError(
                f"The traces are of different models: the {host} is {names[0]} in one, {names[1]} in the other."
            )
        if one["config_sha256"] != other["config_sha256"]:
            raise TraceError(
                f"The traces are of different models: both have a {one['transformer']} as {host}, but of another "
                "configuration; compare two runs of one model."
            )
