"""A bare transformer: its caller gives the schedule and the passes, and both are checked against what comes."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

import alignvid
from acted import Seen, acted
from alignvid import FlowSchedule, StepWindow
from alignvid.errors import AttachmentError, ScheduleError
from pipelines import wan_t2v

PROMPT, NEGATIVE = torch.randn(1, 24, 32, generator=torch.Generator().manual_seed(1)), torch.zeros(1, 24, 32)
UNSHIFTED = r"fraction of steps done is taken as 1 - noise level.*schedule=FlowSchedule"


@pytest.fixture
def transformer() -> Any:
    pipe, _ = wan_t2v()
    return pipe.transformer


def step(transformer: Any, timestep: Any, *texts: Tensor) -> None:
    """One forward per text, each with a timestep of its own in memory unless it is given one."""
    for text in texts or (PROMPT,):
        given = timestep if isinstance(timestep, Tensor) else torch.tensor([float(timestep)])
        samples = len(text)
        with torch.no_grad():
            transformer(
                hidden_states=torch.randn(samples, 16, 1, 2, 2),
                timestep=given.expand(samples),
                encoder_hidden_states=text,
            )


def acts(forwards: list[Seen]) -> list[bool]:
    return [any(forward.acted) for forward in forwards]


def shifted(steps: int, shift: float) -> list[float]:
    """Timesteps as native code makes them, written out."""
    levels = [1 - step / steps for step in range(steps)]
    return [1000 * shift * level / (1 + (shift - 1) * level) for level in levels]


@pytest.mark.parametrize(
    ("steps", "shift", "acting"), [(40, 3.0, 12), (10, 7.0, 3), (4, 1.0, 2)], ids=["Wan", "FramePack", "no shift"]
)
@pytest.mark.parametrize("way", ["FlowSchedule", "list", "tensor"])
@pytest.mark.contract(
    "step",
    done="a bare transformer with `schedule=`, also shifted",
    guaranteed="exactly the fraction of steps",
)
def test_a_fraction_of_the_steps_is_exact_where_the_schedule_is_given(transformer, steps, shift, acting, way):
    timesteps = shifted(steps, shift)
    schedule = {"FlowSchedule": FlowSchedule(steps, shift), "list": timesteps, "tensor": torch.tensor(timesteps)}[way]
    with alignvid.attach(transformer, "generic", steps=(0.0, 0.3), schedule=schedule), acted(transformer) as forwards:
        for timestep in timesteps:
            step(transformer, timestep)
    assert acts(forwards) == [True] * acting + [False] * (steps - acting)


def test_whole_timesteps_that_begin_at_999_are_those_of_the_formula(transformer):
    """Native Wan's UniPC scheduler starts at 0.999 and cuts to whole numbers."""
    levels = [0.999 * (1 - step / 40) for step in range(40)]
    timesteps = [int(1000 * 3 * level / (1 + 2 * level)) for level in levels]
    with alignvid.attach(transformer, "generic", schedule=FlowSchedule(40, 3.0)) as attachment:
        for timestep in timesteps:
            step(transformer, timestep)
    assert attachment.active_forward_count == 12


@pytest.mark.parametrize("schedule", [FlowSchedule(30, 3.0), FlowSchedule(40, 5.0), [1000.0, 500.0]], ids=str)
@pytest.mark.contract(
    "step",
    done="a bare transformer is given a timestep outside of its schedule",
    refused="an error",
)
def test_a_timestep_that_is_not_in_the_schedule_is_an_error(transformer, schedule):
    alignvid.attach(transformer, "generic", schedule=schedule)
    with pytest.raises(
        AttachmentError, match=r"at noise level 0\.\d+, which is no step of the schedule .* FlowSchedule"
    ):
        for timestep in shifted(40, 3.0):
            step(transformer, timestep)


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ([], "does not run from noise to none"),
        ([0.0, 500.0, 1000.0], "from 1000 down to 0"),
        ([900, 900, 1], "each once"),
    ],
    ids=str,
)
def test_a_schedule_that_does_not_run_from_noise_to_none_is_refused(transformer, schedule, words):
    with pytest.raises(ScheduleError, match=words):
        alignvid.attach(transformer, "generic", schedule=schedule)
    assert type(transformer).__module__.startswith("diffusers") and not vars(transformer).get("_alignvid_gate")


def test_a_timestep_that_is_a_view_of_its_schedule_says_it(transformer):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(10)
    with alignvid.attach(transformer, "generic", steps=(0.0, 0.3)), acted(transformer) as forwards:
        for _ in range(2):
            for timestep in scheduler.timesteps:
                step(transformer, timestep)
    assert acts(forwards) == 2 * ([True] * 3 + [False] * 7)


@pytest.mark.contract(
    "step",
    done="a fraction on a bare transformer without a schedule",
    refused="a warning: 1 − noise level was taken",
)
def test_without_a_schedule_a_fraction_is_warned_of_once(transformer):
    with alignvid.attach(transformer, "generic", steps=(0.0, 0.3)), acted(transformer) as forwards:
        with pytest.warns(UserWarning, match=UNSHIFTED) as caught:
            for timestep in (1000, 800, 600):
                step(transformer, timestep)
    assert acts(forwards) == [True, True, False] and len(caught) == 1


def test_without_a_schedule_a_forward_without_noise_belongs_to_the_last_steps(transformer):
    with alignvid.attach(transformer, "generic", steps=(0.5, 1.0)), acted(transformer) as forwards:
        with pytest.warns(UserWarning, match=UNSHIFTED):
            for timestep in (600, 400, 0):
                step(transformer, timestep)
    assert acts(forwards) == [False, True, True]


@pytest.mark.parametrize("window", [StepWindow.noise_above(0.7), StepWindow.all(), StepWindow.none()], ids=str)
def test_a_window_that_needs_no_schedule_does_not_warn(transformer, window):
    with alignvid.attach(transformer, "generic", steps=window), acted(transformer) as forwards:
        for timestep in (1000, 600):
            step(transformer, timestep)
    assert acts(forwards) == [window.unit != "none", window == StepWindow.all()]


@pytest.mark.parametrize("branch", ["cond", "uncond"])
@pytest.mark.contract(
    "step",
    done="a branch on a bare transformer without `passes=`",
    refused="an error",
)
def test_a_branch_of_a_bare_transformer_is_refused_without_its_passes(transformer, branch):
    alignvid.attach(transformer, "generic", steps="all", branch=branch)
    with pytest.raises(AttachmentError, match=rf"A gain in the {branch} branch .* passes=\('cond', 'uncond'\)"):
        step(transformer, 1000)


@pytest.mark.parametrize("error", [None, ZeroDivisionError])
def test_an_announced_pass_is_over_when_its_context_is_left(transformer, error):
    other = torch.ones_like(PROMPT)  # no text by which a pass could be known
    with alignvid.attach(transformer, "generic", steps="all", branch="cond") as attachment:
        with pytest.raises(error) if error else nullcontext(), transformer.cache_context("cond"):
            step(transformer, 1000)
            if error:
                raise error
        assert attachment.active_forward_count == 1
        with pytest.raises(AttachmentError, match="needs to know which pass of guidance a forward is"):
            step(transformer, 1000, other)


@pytest.mark.parametrize("branch", ["both", "cond", "uncond"])
@pytest.mark.parametrize("passes", [("cond", "uncond"), ("uncond", "cond")], ids=str)
@pytest.mark.parametrize("schedule", [None, FlowSchedule(4)], ids=["by noise level", "by schedule"])
def test_the_passes_of_a_step_come_in_the_order_that_was_given(transformer, passes, branch, schedule):
    recipe = {"steps": "all", "branch": branch, "passes": passes, "schedule": schedule}
    with alignvid.attach(transformer, "generic", **recipe), acted(transformer) as forwards:
        for _ in range(2):
            for timestep in (1000, 750, 500, 250):
                step(transformer, timestep, PROMPT.clone(), NEGATIVE.clone())
    assert acts(forwards) == 8 * [branch in ("both", one) for one in passes]


def test_an_extra_forward_is_known_by_its_text(transformer):
    recipe = {"steps": "all", "branch": "cond", "passes": ("cond", "uncond"), "schedule": FlowSchedule(4)}
    with alignvid.attach(transformer, "generic", **recipe), acted(transformer) as forwards:
        step(transformer, 1000, PROMPT, NEGATIVE)
        step(transformer, 750, NEGATIVE, PROMPT, NEGATIVE)
        step(transformer, 1000, PROMPT)
        step(transformer, 500, PROMPT, NEGATIVE)
    assert acts(forwards) == [True, False, False, True, False, True, True, False]


def test_a_third_pass_of_a_step_is_an_error(transformer):
    alignvid.attach(transformer, "generic", steps="all", branch="cond", passes=("cond", "uncond"))
    with pytest.raises(AttachmentError, match=r"forward 3 of the step at noise level 1, but passes=.* names 2\. Give"):
        step(transformer, 1000, PROMPT, NEGATIVE, torch.ones(1, 24, 32))


def test_a_run_of_one_step_begins_again_with_its_first_pass(transformer):
    recipe = {"steps": "all", "branch": "uncond", "passes": ("cond", "uncond"), "schedule": [1000.0]}
    with alignvid.attach(transformer, "generic", **recipe), acted(transformer) as forwards:
        for _ in range(3):
            step(transformer, 1000, PROMPT.clone(), NEGATIVE.clone())
    assert acts(forwards) == [False, True] * 3


@pytest.mark.parametrize(("passes", "acting"), [("uncond+cond", [False, True]), (("cond+uncond",), [True, False])])
def test_a_batch_holds_the_branches_in_the_order_that_was_given(transformer, passes, acting):
    recipe = {"steps": "all", "branch": "cond", "passes": passes}
    with alignvid.attach(transformer, "generic", **recipe), acted(transformer) as forwards:
        for timestep in (1000, 500):
            step(transformer, timestep, torch.cat([NEGATIVE, PROMPT]))
    assert [forward.acted for forward in forwards] == [acting, acting]
    with alignvid.attach(transformer, "generic", **recipe), pytest.raises(AttachmentError, match="batch of 1 samples"):
        step(transformer, 1000, PROMPT)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("passes", [(), "both", ("cond", "neg"), ("cond+",)], ids=repr)
def test_passes_that_are_none_are_refused(transformer, passes):
    with pytest.raises(
        AttachmentError, match=r"does not say the passes of a step: each 'cond', 'uncond', or one batch"
    ):
        alignvid.attach(transformer, "generic", passes=passes)


def test_a_pipeline_has_a_schedule_and_passes_of_its_own():
    pipe, _ = wan_t2v()
    with pytest.raises(AttachmentError, match="schedule and passes cannot be given for WanPipeline, whose scheduler"):
        alignvid.attach(pipe, "generic", schedule=FlowSchedule(4), passes=("cond", "uncond"))
