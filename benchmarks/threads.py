"""What an attachment costs two threads that run forwards on one transformer at the same time.

Eager forwards run beside each other, each with its own Call. Compiled ones take turns while something is attached, so
that what two threads gain over one is the most that can be lost; it is measured, too. Wall time, for processor time
does not show that a thread waits; states take turns round by round, and only ratios within a round are used.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch

from families import STATES, garbage_between_rounds, order, ratios, spread
from hosts import HOSTS, build
from twins import (
    FORWARDS_PER_THREAD,
    Run,
    Twins,
    compile_by_region,
    in_turn,
    one_forward,
    twins_of,
    two_threads,
    undo_compile,
)

ROUNDS = 12
FAMILY = "wan"


class ThreadRow(NamedTuple):
    forwards: str
    active: str
    inactive: str
    detached_again: str
    one_thread: str
    """Detached, as many forwards in one thread."""
    rounds: str


def thread_rows(backends: Iterable[str] = ("", "eager", "inductor")) -> Iterator[ThreadRow]:
    """Ratios to detached with their quartiles, eager and by each backend of torch.compile."""
    built = build(HOSTS[FAMILY], is_tiny=True)
    for backend in backends:
        with torch.no_grad(), warnings.catch_warnings(), twins_of(built) as twins:
            warnings.simplefilter("ignore")
            if backend:
                compile_by_region(twins, backend)
            for twin in twins.by_state.values():  # graphs are made in one thread
                one_forward(twin)
            seconds = rounds(twins)
            undo_compile(twins)
        yield ThreadRow(
            f"2 x {FORWARDS_PER_THREAD}, " + (f"compiled by region ({backend})" if backend else "eager"),
            spread(ratios(seconds, "active")),
            spread(ratios(seconds, "inactive")),
            spread(ratios(seconds, "detached again")),
            spread(ratios(seconds, "one thread")),
            str(ROUNDS),
        )


def rounds(twins: Twins) -> dict[str, list[float]]:
    """Wall seconds by state, round by round; the first round is left out."""
    seconds: dict[str, list[float]] = {state: [] for state in (*STATES, "one thread")}
    with garbage_between_rounds() as collect:
        for number in range(ROUNDS + 1):
            for state in order(number):
                seconds[state].append(_wall_seconds(two_threads, twins, state))
            seconds["one thread"].append(_wall_seconds(in_turn, twins, "detached"))
            collect()
    return {state: values[1:] for state, values in seconds.items()}


def _wall_seconds(run: Run, twins: Twins, state: str) -> float:
    begin = time.perf_counter()
    run(twins.by_state[state])
    return time.perf_counter() - begin
