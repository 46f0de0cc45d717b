"""Two attachments, and two pipelines that share one transformer."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import WanPipeline

import alignvid
from alignvid import StepWindow
from alignvid.errors import AttachmentError
from five import BUILDERS, FIVE, RECIPE
from pipelines import generate, wan_t2v


@pytest.mark.combines
@pytest.mark.parametrize("combination", ["two pipelines, one transformer"])
@pytest.mark.parametrize("name", FIVE)
def test_a_gain_acts_in_every_pipeline_that_has_the_transformer(name, combination, record_property):
    pipe, call = BUILDERS[name]()
    call = call | {"num_inference_steps": 2}
    other = type(pipe)(**pipe.components)
    other.set_progress_bar_config(disable=True)
    plain = generate(pipe, call)
    first = alignvid.attach(pipe, RECIPE)
    expected = generate(pipe, call)
    forwards = first.active_forward_count
    with pytest.raises(AttachmentError, match=r"already attached to, with a recipe of your own\. Detach that first"):
        alignvid.attach(other, "generic")
    assert torch.equal(generate(other, call), expected) and not torch.equal(expected, plain)
    assert first.active_forward_count == 2 * forwards
    alignvid.detach(other)
    assert not first.is_attached
    assert torch.equal(generate(pipe, call), plain)
    record_property("pipeline", type(pipe).__name__)


@pytest.mark.parametrize("is_attached_first", [False, True], ids=["made before attaching", "made afterwards"])
def test_from_pipe_shares_the_attachment(is_attached_first):
    """diffusers moves components of the exact class alone; an attached one equals its own."""
    pipe, call = wan_t2v()
    steps = [lambda: alignvid.attach(pipe, RECIPE), lambda: WanPipeline.from_pipe(pipe)]
    other = [step() for step in (steps if is_attached_first else reversed(steps))][is_attached_first]
    other.set_progress_bar_config(disable=True)
    assert other.transformer is pipe.transformer
    assert torch.equal(generate(other, call), generate(pipe, call))
    with pytest.raises(AttachmentError, match="already attached"):
        alignvid.attach(other)


@pytest.mark.parametrize("has_run", [False, True], ids=["before the first run", "after a run of the first"])
def test_a_scheduler_of_ones_own_leaves_the_step_to_the_noise_level(has_run):
    pipe, call = wan_t2v()
    call = call | {"num_inference_steps": 4}
    other = type(pipe)(**pipe.components | {"scheduler": copy.deepcopy(pipe.scheduler)})
    other.set_progress_bar_config(disable=True)
    window = StepWindow.noise_above(0.7)
    with alignvid.attach(other, RECIPE, steps=window) as attachment:
        expected, active = generate(other, call), attachment.active_forward_count
    attachment = alignvid.attach(pipe, RECIPE, steps=window)
    if has_run:
        generate(pipe, call)
    before = attachment.active_forward_count
    assert torch.equal(generate(other, call), expected)
    assert attachment.active_forward_count - before == active
