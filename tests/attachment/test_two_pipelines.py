"""Two pipelines with schedulers of their own on one attached transformer, in two threads, as servers run them."""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

import alignvid
from alignvid import BlockSet, Recipe, Scalar, StepWindow
from pipelines import generate, other_prompt
from registry import BUILDERS

ROUNDS = 3
WINDOWS = {"noise": StepWindow.noise_above(0.7), "fraction": StepWindow.fraction(0.25, 0.75)}


@pytest.fixture(autouse=True)
def threads_that_take_turns_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def sharing(pipe: DiffusionPipeline) -> DiffusionPipeline:
    """A pipeline with the same transformer and a scheduler of its own."""
    other = type(pipe)(**pipe.components | {"scheduler": copy.deepcopy(pipe.scheduler)})
    other.set_progress_bar_config(disable=True)
    return other


CASES = [
    *((name, window, branch) for name in ("wan_t2v", "sd3") for window in WINDOWS for branch in ("both", "cond")),
    (
        "flux",
        "noise",
        "both",
    ),  # its timestep is no view of a schedule: a fraction is warned of, see test_whose_forward.py
    ("flux", "noise", "uncond"),  # its one pass is conditional, so that nothing may act
]


@pytest.mark.parametrize(("name", "window", "branch"), CASES)
@pytest.mark.contract(
    "state",
    done="two pipelines with schedulers of their own share a transformer, each in a thread",
    guaranteed="every result is bit-equal to that made alone, attached to its own pipeline; each window and branch",
    refused="a fraction where the timestep is no view of a schedule (Flux): a warning",
)
def test_two_pipelines_on_one_transformer_in_two_threads_are_each_as_alone(name, window, branch):
    first, call = BUILDERS[name]()
    jobs: list[tuple[DiffusionPipeline, dict[str, Any]]] = [
        (first, call | {"num_inference_steps": 4}),
        (sharing(first), other_prompt(call) | {"num_inference_steps": 7}),
    ]
    recipe = Recipe(Scalar(3.0, {"*.*": 1.0}), BlockSet.of("all"), WINDOWS[window], branch)
    plain = [generate(*job) for job in jobs]
    alone = []
    for pipe, given in jobs:
        with alignvid.attach(pipe, recipe):
            alone.append(generate(pipe, given))
    together = threading.Barrier(len(jobs))

    def run(job: tuple[DiffusionPipeline, dict[str, Any]]) -> list[Tensor]:
        together.wait()
        return [generate(*job) for _ in range(ROUNDS)]

    with alignvid.attach(first, recipe) as attachment, ThreadPoolExecutor(len(jobs)) as threads:
        found = list(threads.map(run, jobs))
    for expected, without, results in zip(alone, plain, found, strict=True):
        assert torch.equal(expected, without) == (branch == "uncond")
        assert all(torch.equal(result, expected) for result in results)
    assert attachment.acted_count == attachment.site_count * attachment.active_forward_count
