"""One model several times in one process, sharing its weights: detached, attached and inactive, attached and active.

So that attached and detached take turns without attaching in between, which costs compiled code a graph each time, and
without a second copy of 28 GB. "Detached again" is a control: it should be 1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import chain
from threading import Barrier
from typing import Any, NamedTuple

import torch
from torch import Tensor

import alignvid
from families import STATES
from hosts import Built

Run = Callable[[Built], Tensor]
"""Runs a twin, and gives the output of its first forward."""
FORWARDS_PER_THREAD = 2


class Twins(NamedTuple):
    by_state: Mapping[str, Built]
    attachments: Mapping[str, Any]
    """Of the states that are attached."""


@contextmanager
def twins_of(built: Built) -> Iterator[Twins]:
    """A twin for each of families.STATES, the attached ones with the generic preset on all blocks."""
    by_state = {state: _twin(built) for state in STATES}
    with ExitStack() as attached:
        attachments = {
            name: attached.enter_context(
                alignvid.attach(by_state[name].pipeline, "generic", blocks="all", steps=state.steps)
            )
            for name, state in STATES.items()
            if state.is_attached
        }
        yield Twins(by_state, attachments)


def _twin(built: Built) -> Built:
    """Another pipeline and transformer over the same weights."""
    transformer = built.pipeline.transformer
    shared = {id(tensor): tensor for tensor in chain(transformer.parameters(), transformer.buffers())}
    return Built(copy.deepcopy(built.pipeline, shared), built.arguments)


def one_forward(built: Built) -> Tensor:
    return built.pipeline.transformer(**built.arguments)[0]


def in_turn(built: Built) -> Tensor:
    """As many forwards as `two_threads` runs, in this thread."""
    outputs = [one_forward(built) for _ in range(2 * FORWARDS_PER_THREAD)]
    return outputs[0]


def two_threads(built: Built) -> Tensor:
    """Some forwards in each of two threads at the same time, on one transformer; on a GPU each has its own stream."""
    together = Barrier(2)

    def forwards(_: int) -> Tensor:
        on_gpu = next(built.pipeline.transformer.parameters()).is_cuda
        stream = torch.cuda.Stream() if on_gpu else None
        together.wait(timeout=60)
        with torch.no_grad(), torch.cuda.stream(stream):  # for None it does nothing
            outputs = [one_forward(built) for _ in range(FORWARDS_PER_THREAD)]
            if stream is not None:
                stream.synchronize()
        return outputs[0]

    with ThreadPoolExecutor(2) as threads:
        first, _ = threads.map(forwards, range(2))
    return first


def compile_by_region(twins: Twins, backend: str) -> None:
    for built in twins.by_state.values():
        built.pipeline.transformer.compile_repeated_blocks(backend=backend, fullgraph=True)


def undo_compile(twins: Twins) -> None:
    """There is no call that undoes `compile`."""
    for built in twins.by_state.values():
        for module in built.pipeline.transformer.modules():
            module._compiled_call_impl = None
    torch._dynamo.reset()
