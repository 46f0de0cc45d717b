"""What happens around a run: interruptions, copies, saved models and threads, on each of the five pipelines."""

from __future__ import annotations

import copy
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn

import alignvid
from five import BUILDERS, FIVE, RECIPE, SLOW_BUT_TWO
from pipelines import generate

NAMES = [pytest.param(name, marks=SLOW_BUT_TWO[name]) for name in FIVE]

ROUNDING = 1e-5
"""Of threads: one of some 6,000 runs differed in its last digits, for a reason that was not found."""


@pytest.mark.combines
@pytest.mark.parametrize("combination", ["interrupted by an error", "interrupted by Ctrl-C"])
@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_run_leaves_the_model_as_it_was(name, combination):
    error = KeyboardInterrupt if "Ctrl-C" in combination else ZeroDivisionError
    pipe, call = BUILDERS[name]()
    plain = generate(pipe, call)

    def interrupt(*_: Any) -> dict[str, Any]:
        raise error

    with pytest.raises(error), alignvid.attach(pipe, RECIPE) as attachment:
        generate(pipe, call, callback_on_step_end=interrupt)
    assert attachment.active_forward_count
    assert torch.equal(generate(pipe, call), plain)


@pytest.mark.combines
@pytest.mark.parametrize("combination", ["deepcopy"])
@pytest.mark.parametrize("name", NAMES)
def test_a_copy_of_an_attached_pipeline_is_attached_too_and_detaches_alone(name, combination):
    pipe, call = BUILDERS[name]()
    plain = generate(pipe, call)
    alignvid.attach(pipe, RECIPE)
    copied = copy.deepcopy(pipe)
    attached = generate(copied, call)
    assert not torch.equal(attached, plain)
    alignvid.detach(copied)
    assert torch.equal(generate(copied, call), plain)
    assert torch.equal(generate(pipe, call), attached)


@pytest.mark.combines
@pytest.mark.parametrize("combination", ["save and load"])
@pytest.mark.parametrize("name", NAMES)
def test_a_transformer_saved_while_attached_loads_without_the_gain(name, combination, tmp_path):
    pipe, call = BUILDERS[name]()
    plain = generate(pipe, call)
    with alignvid.attach(pipe, RECIPE):
        attached = generate(pipe, call)
        pipe.transformer.save_pretrained(tmp_path)
    pipe.transformer = type(pipe.transformer).from_pretrained(tmp_path)
    align(pipe.transformer)
    assert torch.equal(generate(pipe, call), plain)
    with alignvid.attach(pipe, RECIPE):
        assert torch.equal(generate(pipe, call), attached)
    assert not torch.equal(attached, plain)


def align(transformer: nn.Module) -> None:
    """Loaded weights lie in memory as in their file. Off a multiple of 16 bytes some kernels sum in another order."""
    for weight in transformer.parameters():
        weight.data = weight.data.clone()


@pytest.mark.combines
@pytest.mark.parametrize("combination", ["callback_on_step_end"])
@pytest.mark.parametrize("name", NAMES)
def test_a_callback_that_detaches_ends_the_gain_at_that_step(name, combination):
    """The same as a window that ends there."""
    pipe, call = BUILDERS[name]()
    call = call | {"num_inference_steps": 4}
    with alignvid.attach(pipe, RECIPE, steps=(0.0, 0.5)):
        expected = generate(pipe, call)
    attachment = alignvid.attach(pipe, RECIPE, steps=(0.0, 1.0))

    def detach_after_two(_: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if step == 1:
            attachment.detach()
        return kwargs

    assert torch.equal(generate(pipe, call, callback_on_step_end=detach_after_two), expected)


@pytest.mark.combines
@pytest.mark.parametrize("combination", ["8 threads"])
@pytest.mark.parametrize("name", NAMES)
def test_eight_pipelines_in_eight_threads_do_not_disturb_each_other(name, combination):
    gammas = [1.0 + 0.1 * thread for thread in range(8)]
    jobs = [(*BUILDERS[name](), gamma) for gamma in gammas]

    def run(job: Any) -> torch.Tensor:
        pipe, call, gamma = job
        with alignvid.attach(pipe, RECIPE, gamma=gamma):
            return generate(pipe, call, num_inference_steps=2)

    alone = [run(job) for job in jobs]
    with ThreadPoolExecutor(len(jobs)) as threads:
        together = list(threads.map(run, jobs))
    assert max(largest(one, other) for one, other in zip(alone, together, strict=True)) <= ROUNDING
    assert min(largest(one, other) for one, other in itertools.pairwise(alone)) > 100 * ROUNDING


def largest(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())
