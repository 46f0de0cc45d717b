"""What an attachment costs ten families, tiny but with two thousand tokens: time as paired ratios, operations, graphs.

Every round runs a forward in each state, in another order each time: detached, detached again, attached at an inactive
step, attached at an active one. Where the state is detached, the recipe is attached to a copy that does not run: what
it leaves in memory, which alone can move a time by a hundredth, is then the same for all. Times are processor seconds
of this thread, so that other programs do not count, and Python collects its garbage between rounds. "Detached again"
should be 1: it shows how far the others can be trusted.
"""

from __future__ import annotations

import gc
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

import alignvid
from hosts import HOSTS, Built, build, noted_tokens
from overhead import OperationCount

PROCESSOR_S = 18.0
"""Processor time that the rounds of one family take."""
WARM_UP_ROUNDS = 2
COLLECT_EVERY = 10


class State(NamedTuple):
    is_attached: bool
    steps: str


STATES = {
    "detached": State(False, "none"),
    "detached again": State(False, "none"),
    "inactive": State(True, "none"),
    "active": State(True, "all"),
}


class Pair(NamedTuple):
    """One model twice: the one that runs, and the one that is attached to where the first is to be detached."""

    running: Built
    bystander: Built

    @contextmanager
    def in_state(self, state: State) -> Iterator[None]:
        attached = self.running if state.is_attached else self.bystander
        with alignvid.attach(attached.pipeline, "generic", blocks="all", steps=state.steps):
            yield

    def forward(self) -> None:
        self.running.pipeline.transformer(**self.running.arguments)


class FamilyRow(NamedTuple):
    family: str
    tokens: str
    active: str
    inactive: str
    detached_again: str
    rounds: str
    operations_added: str
    graphs: str


def family_rows(names: Iterable[str] = HOSTS) -> Iterator[FamilyRow]:
    """Ratios to detached with their quartiles; operations added at an active and at an inactive step; graphs of
    torch.compile detached and attached, where both kinds of steps were run.
    """
    for name in names:
        host = HOSTS[name]
        pair = Pair(build(host, is_tiny=True), build(host, is_tiny=True))
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Mochi names an autocast that a CPU does not have
            seconds = rounds(pair, PROCESSOR_S)
            with noted_tokens(pair.running) as tokens:
                counts = {state: operations(pair, STATES[state]) for state in STATES}
            compiled = graphs(pair, "detached", "detached again"), graphs(pair, "inactive", "active")
        yield FamilyRow(
            name,
            f"{tokens[0]:,} + {host.tiny_size.text} text",
            spread(ratios(seconds, "active")),
            spread(ratios(seconds, "inactive")),
            spread(ratios(seconds, "detached again")),
            str(len(seconds["detached"])),
            f"{counts['active'] - counts['detached']}, inactive {counts['inactive'] - counts['detached']}",
            f"{compiled[1]}, detached {compiled[0]}",
        )


def rounds(pair: Pair, processor_s: float) -> dict[str, list[float]]:
    """Seconds of a forward by state, round by round, until that much processor time is used."""
    seconds: dict[str, list[float]] = {state: [] for state in STATES}
    end = time.thread_time() + processor_s
    with garbage_between_rounds() as collect:
        number = 0
        while number < WARM_UP_ROUNDS + 2 or time.thread_time() < end:
            for state in order(number):
                seconds[state].append(timed(pair, STATES[state]))
            number += 1
            if number % COLLECT_EVERY == 0:
                collect()
    return {state: values[WARM_UP_ROUNDS:] for state, values in seconds.items()}


def order(number: int) -> list[str]:
    """Every state in every place, and before and behind every other one, within eight rounds."""
    names = list(STATES)
    turned = names[number % len(names) :] + names[: number % len(names)]
    return turned[::-1] if number // len(names) % 2 else turned


def timed(pair: Pair, state: State) -> float:
    with pair.in_state(state):
        begin = time.thread_time()
        pair.forward()
        return time.thread_time() - begin


def operations(pair: Pair, state: State) -> int:
    """Tensor operations of a forward; the first one, which reads the schedule, is not counted."""
    with pair.in_state(state):
        pair.forward()
        with OperationCount() as counter:
            pair.forward()
    return counter.count


def graphs(pair: Pair, *states: str) -> int:
    """Graphs that torch.compile makes of the whole transformer for a forward in each of these states: one where the
    host allows it, else as many as it is broken into.
    """
    try:
        return _graphs(pair, states, is_one=True)
    except torch._dynamo.exc.Unsupported:
        return _graphs(pair, states, is_one=False)


def _graphs(pair: Pair, states: Sequence[str], *, is_one: bool) -> int:
    torch._dynamo.reset()
    made = []

    def counting(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        made.append(graph)
        return graph.forward

    transformer = pair.running.pipeline.transformer
    transformer.compile(backend=counting, fullgraph=is_one)
    try:
        for state in states:
            with pair.in_state(STATES[state]):
                pair.forward()
    finally:
        transformer._compiled_call_impl = None  # there is no call that undoes `compile`
    return len(made)


def ratios(seconds: dict[str, list[float]], state: str) -> list[float]:
    return [there / here for there, here in zip(seconds[state], seconds["detached"], strict=True)]


def spread(values: Sequence[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.4f} [{low:.3f}, {high:.3f}]"


@contextmanager
def garbage_between_rounds() -> Iterator[Callable[[], int]]:
    """Keep Python from collecting garbage by itself; gives the call that does it, fast as all older is left out."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield gc.collect
    finally:
        gc.enable()
        gc.unfreeze()
