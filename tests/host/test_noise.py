"""What a scheduler says of its steps, by real schedulers of diffusers."""

import pytest
import torch
from diffusers import DDIMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler, HeliosScheduler

from alignvid.host.noise import first_step, is_logarithm, nearest, other_stages, said_step


def flow(steps: int = 4, begin: int | None = None) -> FlowMatchEulerDiscreteScheduler:
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(steps)
    if begin is not None:
        scheduler.set_begin_index(begin)
    return scheduler


def test_timesteps_below_zero_are_logarithms_and_one_at_zero_is_none():
    down_to_zero, logarithms = DDIMScheduler(), EDMEulerScheduler()
    down_to_zero.set_timesteps(4)
    logarithms.set_timesteps(4)
    assert float(down_to_zero.timesteps.min()) == 0.0
    assert not is_logarithm(down_to_zero)
    assert is_logarithm(logarithms)
    fractions = flow()
    fractions.timesteps = fractions.timesteps / 1000
    assert not is_logarithm(fractions)


def test_a_scheduler_says_its_step_or_where_it_will_begin_or_nothing():
    scheduler = flow(begin=2)
    assert said_step(scheduler) == 2
    scheduler.step(torch.zeros(1), scheduler.timesteps[2], torch.zeros(1))
    assert said_step(scheduler) == 3
    assert said_step(flow()) is None
    assert said_step(object()) is None


def test_a_run_begins_where_the_pipeline_said_or_at_0_or_at_the_step_that_is_seen():
    assert first_step(flow(begin=2), 3) == 2
    begun = flow()
    begun.step(torch.zeros(1), begun.timesteps[0], torch.zeros(1))
    assert first_step(begun, 3) == 0
    assert first_step(flow(), 3) == 3


@pytest.mark.parametrize(("level", "step"), [(1.0, 0), (0.76, 1), (0.74, 1), (0.1, 2)])
def test_the_nearest_step_is_that_of_the_nearest_level(level, step):
    assert nearest([1.0, 0.75, 0.25], level) == step


@pytest.mark.parametrize("stage", range(3))
def test_the_other_stages_of_a_pyramid_lie_before_and_after_the_running_one(stage):
    scheduler = HeliosScheduler(stage_range=[0, 1 / 3, 2 / 3, 1], stages=3)
    scheduler.set_timesteps(2, stage)
    before, after = other_stages(scheduler, 2)
    running = (scheduler.timesteps[:2] / 1000).tolist()
    assert (len(before), len(after)) == (2 * stage, 2 * (2 - stage))
    assert min(before, default=1.0) > running[1]
    assert max(after, default=0.0) < running[0]


def test_a_schedule_of_one_stage_has_no_others():
    assert other_stages(flow(), 4) == ([], [])
