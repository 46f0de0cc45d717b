"""Call: one forward of a transformer, in force in one thread from the door to the return.

What effects know of a forward belongs to its Call and is gone when it ends: whether the gain acts, for which samples,
how many tokens each stream has. So two threads may run one transformer, a forward that does not come through the door
finds nothing to act with, and what a checkpoint computes again in the backward acts as it did at first.

    call.enter()                  # the gate does this before the forward, and leaves after it
    transformer(...)              # norms find the call by `running_with`

Compiled code cannot ask a thread for its call: it reads what the gate has put on the effect itself (Effect.shared),
and the gate lets one forward of a compiled transformer run at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from alignvid.host.caches import Samples


class Acting(NamedTuple):
    """How the effects act in the forward that is running."""

    samples: tuple[Any, ...]
    """By sample of the batch, or one value for all; one such tuple for each modulation of a recipe that has several."""
    noise_level: float


def as_one(samples: Sequence[Samples]) -> Samples:
    """How all parts act, in a form in which two forwards can be compared."""
    if len(samples) == 1:
        return samples[0]
    return [is_active for chosen in samples for is_active in (chosen if isinstance(chosen, list) else [chosen])]


def acting_samples(samples: Sequence[Samples]) -> tuple[Any, ...]:
    """By sample of the batch, or one value for all; by part, if there are several."""
    by_part = [tuple(chosen) if isinstance(chosen, list) else (chosen,) for chosen in samples]
    return by_part[0] if len(by_part) == 1 else tuple(by_part)


class Edge(NamedTuple):
    """Whether the gain begins or ends to act."""

    run: int
    """Number of the run."""
    kind: Hashable
    """What distinguishes the forwards of a step: the cache context that the pipeline announced, the samples."""
    is_edge: bool


class _Stack(threading.local):
    def __init__(self) -> None:
        self.calls: list[Call] = []


stack = _Stack()
"""The calls that are in force in this thread, the innermost last."""


class Call:
    """What acts in one forward, and how often it did."""

    def __init__(self, gate: object, states: dict[Any, Any], acting: Acting | None) -> None:
        """Prepared, not in force.

        Args:
            gate: what made it, so that a forward within a forward is distinguished from the forward itself.
            states: what each effect knows of this forward.
            acting: how the effects act; None if they are off.
        """
        self.gate = gate
        self.states = states
        self.acting = acting
        self.ran = 0
        """Attentions whose keys passed an effect, in force or not."""
        self.acted = 0
        """Attentions whose keys were multiplied."""
        self.met: set[int] | None = None
        """Modules that stand for their attention and ran, by id; None where that need not be known."""
        self.edge = Edge(0, None, False)
        self.begins_step = False
        """Whether it is the first forward of its step."""
        self.facts: Any = None
        """What was found in its run; see `RunFacts`."""
        self.counts_as = 1
        """0 while a part of it is computed again, for a checkpoint or a proof: that is not counted."""
        self.is_preparation = False
        """Whether it belongs to no step."""
        self.is_taken_over = False
        """Whether its outcome is taken from an equal forward that ran earlier, so that nothing has to act."""
        self.is_idle = False
        """Whether nothing is acted on, though the gain is on: no token of its text is one of those that are chosen."""
        self.attending: tuple[Any, ...] = ()
        """Effects of the attention that is running, which act on its call; see effects/attention_call.py."""
        self._doors: set[Hashable] = set()

    def passes(self, door: Hashable) -> bool:
        """Whether this forward passes a door for the first time; a second time is another forward."""
        if door in self._doors:
            return False
        self._doors.add(door)
        return True

    def begin_again(self) -> None:
        """Let its forward pass its doors once more."""
        self._doors.clear()

    @contextmanager
    def without(self, effect: Any) -> Iterator[None]:
        """Inside the block, the same forward runs once more with that effect off, and is not counted."""
        state, acting, counts_as, doors = self.states[effect], self.acting, self.counts_as, self._doors
        was_active, state.is_active = state.is_active, False
        self.counts_as, self._doors = 0, set()
        if acting is not None:  # so that what shares forwards takes this one for another
            self.acting = acting._replace(samples=(*acting.samples, "without"))
        try:
            yield
        finally:
            state.is_active = was_active
            self.acting, self.counts_as, self._doors = acting, counts_as, doors

    def enter(self) -> None:
        """Put it in force in this thread, and for compiled code."""
        stack.calls.append(self)
        for effect, state in self.states.items():
            effect.shared = state

    def leave(self) -> None:
        """Give the thread back to the call around this one, if there is one."""
        calls = stack.calls
        calls.pop()
        for effect in self.states:
            outer = running_with(effect) if calls else None
            effect.shared = effect.at_rest if outer is None else outer.states[effect]


def first_of(output: Any) -> Any:
    """The prediction in what a transformer gives: a tuple, or an output of diffusers."""
    return output[0]


def with_first(output: Any, prediction: Any) -> Any:
    """The same with another prediction."""
    if isinstance(output, tuple):
        return (prediction, *output[1:])
    return type(output)(**{**output, next(iter(output)): prediction})


def running() -> Call | None:
    """The innermost call that is in force in this thread."""
    calls = stack.calls
    return calls[-1] if calls else None


def running_with(effect: object) -> Call | None:
    """The innermost call of this thread that an effect belongs to."""
    calls = stack.calls
    if calls and effect in calls[-1].states:  # nearly always; every norm asks
        return calls[-1]
    return next((call for call in reversed(calls) if effect in call.states), None)


def running_through(gate: object) -> Call | None:
    """The innermost call of this thread, if a gate made it."""
    calls = stack.calls
    return calls[-1] if calls and calls[-1].gate is gate else None
