from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    HeliosDMDScheduler,
    HeliosScheduler,
    LTXEulerAncestralRFScheduler,
)
from diffusers.modular_pipelines.echo.denoise import DEFAULT_ECHO_SIGMAS, EchoDenoiseLoopStep
from torch import nn

from alignvid import StepWindow
from alignvid.errors import ClockError
from alignvid.host.branches import active_samples, pass_named
from alignvid.host.clock import StepClock
from alignvid.host.given import Given
from alignvid.host.moment import Moment
from alignvid.host.noise import noise_levels
from alignvid.host.passes import PassReader
from alignvid.host.transformers import Host
from alignvid.models.builtin.wan import FAMILY as WAN
from alignvid.models.family import Time

HELIOS = {"stage_range": [0, 1 / 3, 2 / 3, 1], "stages": 3}
HOST = Host("transformer", nn.Identity(), nn.Identity(), WAN)
ASCENDING = HOST._replace(family=replace(WAN, time=Time(scale=1.0, is_ascending=True)))


def at(noise_level: float) -> dict[str, Any]:
    """The arguments of a forward at that noise level, its timestep in memory of its own."""
    return {"timestep": torch.tensor([1000.0 * noise_level])}


def moment(run: int, step: int | None) -> Moment:
    """The moment of a forward in step `step` of a run."""
    return Moment(True, step, 0.5, run)


@pytest.mark.parametrize(
    ("timesteps", "levels"),
    [
        ([1000.0, 750.0, 250.0], [1.0, 0.75, 0.25]),
        ([999, 500, 0], [0.999, 0.5, 0.0]),
        ([1.0, 0.75, 0.25], [1.0, 0.75, 0.25]),
        ([0.0, 250.0, 750.0], [1.0, 0.75, 0.25]),
        ([0.0, 0.25, 0.75], [1.0, 0.75, 0.25]),
        ([1.5708, 0.7854, 0.0], [1.0, 0.5, 0.0]),
        ([1000.0], [1.0]),
        ([math.log(80.0) / 4.0, 0.0, -0.5], [80.0 / 81.0, 0.5, 1.0 / (1.0 + math.e**2)]),
        ([80000.0, 1000.0, 0.0], [80.0 / 81.0, 0.5, 0.0]),
        ([], []),
    ],
    ids=[
        "1000 down to 0",
        "whole numbers",
        "1 down to 0",
        "ascending to 1000",
        "ascending to 1",
        "angles of TrigFlow",
        "one step",
        "logarithm of sigma",
        "sigma beyond a flow",
        "no step",
    ],
)
def test_noise_runs_from_one_to_zero_whatever_the_scheduler_counts(timesteps, levels):
    assert noise_levels(timesteps, 1000) == pytest.approx(levels, abs=1e-5)


@pytest.mark.parametrize(
    "timestep",
    [
        torch.tensor(900.0),
        torch.tensor([900]),
        torch.tensor([900.0, 900.0]),
        torch.tensor([[0.0, 0.0, 900.0]]),  # per token, the reference clean
        torch.tensor([900.0], dtype=torch.float64),
        900,
    ],
    ids=["scalar", "whole number", "per sample", "per token", "double", "python number"],
)
def test_the_noisiest_token_tells_the_noise_level(timestep):
    assert Given(HOST, {"timestep": timestep}).level == pytest.approx(0.9)


def test_an_ascending_timestep_is_0_at_pure_noise():
    assert Given(ASCENDING, {"timestep": torch.tensor([0.1, 0.9])}).level == pytest.approx(0.9)


def test_a_timestep_that_is_missing_is_an_error():
    with pytest.raises(ClockError, match="called without a timestep; pass timestep=…"):
        Given(HOST, {}).level  # noqa: B018  # reading it is the test


def test_without_a_pipeline_the_clock_has_no_step_index():
    read = StepClock(StepWindow.noise_above(0.9)).read(HOST, at(0.95))
    assert read.is_in_window
    assert (read.step_index, read.step_count) == (None, None)
    assert read.noise_level == pytest.approx(0.95)
    assert read.source == "own"  # of a bare transformer every forward is


def test_a_forward_at_no_step_of_the_pipelines_schedule_is_none_of_its_run():
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(4)
    read = StepClock(StepWindow.noise_above(0.9), Scheduled(scheduler)).read(HOST, at(0.93))
    assert (read.is_in_window, read.step_index, read.source) == (True, None, "stray")


def test_a_pipeline_without_a_scheduler_has_a_noise_level_and_no_step():
    read = StepClock(StepWindow.noise_above(0.9), object()).read(HOST, at(0.93))
    assert (read.is_in_window, read.step_index, read.source) == (True, None, "stray")


def test_another_pipeline_that_begins_in_the_midst_of_its_schedule_is_counted_from_there():
    own, other = FlowMatchEulerDiscreteScheduler(), FlowMatchEulerDiscreteScheduler()
    own.set_timesteps(4)
    other.set_timesteps(9)
    clock = StepClock(StepWindow.fraction(0.0, 0.5), Scheduled(own))
    for run in (1, 2):
        moments = [clock.read(HOST, {"timestep": timestep.expand(1)}) for timestep in other.timesteps[5:]]
        assert {read.run for read in moments} == {run}
        assert [read.step_index for read in moments] == [0, 1, 2, 3]
        assert [read.is_in_window for read in moments] == [True, True, False, False]
        assert {(read.source, read.step_count) for read in moments} == {("other", 4)}


class Scheduled:
    """A pipeline with nothing but a scheduler."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler


def acting_timesteps(clock: StepClock, scheduler: Any, left_out: int = 0) -> list[float]:
    """The timesteps of a schedule that are in the clock's window; the last of sigmas is the end, and not run."""
    timesteps = scheduler.timesteps[: len(scheduler.sigmas) - 1 - left_out].tolist()
    active = []
    for index, timestep in enumerate(timesteps):
        scheduler._step_index = index or None
        if clock.read(HOST, at(int(timestep) / 1000)).is_in_window:
            active.append(round(timestep))
    return active


@pytest.mark.parametrize("kind", [HeliosScheduler, HeliosDMDScheduler])
@pytest.mark.parametrize(
    ("window", "acting"),
    [
        (StepWindow.fraction(0.0, 0.3), [[0, 1], [], []]),  # of 2 steps in each of 3 stages
        (StepWindow.fraction(0.4, 0.8), [[], [1], [0]]),
        (StepWindow.fraction(0.6, 0.65), [[], [1], []]),  # between two steps: the one that is running then
        (StepWindow.noise_above(0.9), [[0], [], []]),
        (StepWindow.noise(0.0, 0.05), [[], [], [1]]),  # of few steps the nearest
        (StepWindow.all(), [[0, 1], [0, 1], [0, 1]]),
        (StepWindow.none(), [[], [], []]),
    ],
    ids=str,
)
def test_stages_of_a_pyramid_are_one_run(kind, window, acting):
    scheduler = kind(**HELIOS)
    clock = StepClock(window, Scheduled(scheduler))
    for stage, steps in enumerate(acting):
        scheduler.set_timesteps(2, stage)
        assert acting_timesteps(clock, scheduler) == [round(float(scheduler.timesteps[step])) for step in steps]


@pytest.mark.parametrize(
    ("window", "acting"),
    [
        (StepWindow.fraction(0.0, 0.3), [0, 1, 2]),
        (StepWindow.fraction(0.9, 1.0), [7]),
        (StepWindow.noise_above(0.98), [0, 1, 2, 3]),
    ],
    ids=str,
)
def test_a_modular_pipeline_without_a_scheduler_is_taken_to_make_its_default_steps(window, acting):
    clock = StepClock(window, EchoDenoiseLoopStep().init_pipeline())
    *sigmas, _ = DEFAULT_ECHO_SIGMAS
    for run in (1, 2):
        moments = [clock.read(HOST, at(sigma)) for sigma in sigmas]
        assert [moment.step_index for moment in moments if moment.is_in_window] == acting
        assert clock.schedule_count == run


class LTXI2VLongMultiPromptPipeline(Scheduled):
    """As its namesake, it leaves out the last timestep."""


def test_a_timestep_that_a_pipeline_leaves_out_is_no_step():
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(4)
    clock = StepClock(StepWindow.fraction(0.8, 1.0), LTXI2VLongMultiPromptPipeline(scheduler))
    assert acting_timesteps(clock, scheduler, left_out=1) == [round(float(scheduler.timesteps[2]))]


@pytest.mark.parametrize("window", [StepWindow.fraction(0.8, 1.0), StepWindow.noise(0.0, 0.1)], ids=str)
def test_the_end_of_a_schedule_is_no_step_of_it(window):
    scheduler = LTXEulerAncestralRFScheduler()
    scheduler.set_timesteps(sigmas=[1.0, 0.6, 0.3, 0.0])
    assert acting_timesteps(StepClock(window, Scheduled(scheduler)), scheduler) == [300]


def test_the_steps_of_video_to_video_are_numbered_from_the_first_that_runs():
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(8)
    scheduler.set_begin_index(4)
    clock, sample = StepClock(StepWindow.fraction(0.0, 0.5), Scheduled(scheduler)), torch.zeros(1)
    moments = []
    for timestep in scheduler.timesteps[4:]:
        moments.append(clock.read(HOST, at(float(timestep) / 1000)))
        scheduler.step(sample, timestep, sample)
    assert [read.step_index for read in moments] == [0, 1, 2, 3]
    assert [read.is_in_window for read in moments] == [True, True, False, False]
    assert [read.noise_level for read in moments] == pytest.approx((scheduler.timesteps[4:] / 1000).tolist())
    assert {(read.step_count, read.source) for read in moments} == {(4, "own")}


@pytest.mark.parametrize(
    ("context", "branch"),
    [
        ("cond", "cond"),
        ("pred_cond", "cond"),
        ("uncond", "uncond"),
        ("pred_uncond", "uncond"),
        ("uncond_stg", "uncond"),
        ("cond_uncond", "batched"),
        ("refine", "unknown"),
    ],
)
def test_an_announced_pass_is_known_by_its_name(context, branch):
    assert pass_named(context) == branch


def test_a_pass_that_is_not_announced_is_known_by_its_order_within_the_step():
    passes = PassReader(object())
    read = [passes.read(moment(1, step), HOST, {}) for step in (0, 0, 1, 1, 2, 2, 2)]
    assert read == ["cond", "uncond", "cond", "uncond", "cond", "uncond", "unknown"]


def test_a_new_schedule_begins_with_the_conditional_pass_even_at_the_same_step():
    passes = PassReader(object())
    assert [passes.read(moment(section, 0), HOST, {}) for section in (1, 2, 3)] == ["cond", "cond", "cond"]


def test_without_a_step_or_an_announcement_the_pass_is_unknown():
    passes = PassReader(object())
    assert [passes.read(moment(0, None), HOST, {}) for _ in range(3)] == ["unknown"] * 3


@pytest.mark.parametrize(
    ("branch", "running", "acting"),
    [
        ("both", "cond", True),
        ("both", "uncond", True),
        ("both", "batched", True),
        ("cond", "cond", True),
        ("cond", "uncond", False),
        ("cond", "batched", [False, False, True, True]),
        ("uncond", "cond", False),
        ("uncond", "batched", [True, True, False, False]),
        ("cond", "unknown", False),
        ("both", "unknown", True),
    ],
)
def test_the_branch_decides_which_samples_act(branch, running, acting):
    assert active_samples(branch, running, {"hidden_states": torch.zeros(4, 1)}, ()) == acting


@pytest.mark.parametrize(
    ("batch_order", "acting"),
    [
        (("cond", "uncond"), [True, True, True, False, False, False]),
        (("cond", "uncond", "uncond"), [True, True, False, False, False, False]),
    ],
)
def test_a_family_says_in_which_order_its_batch_holds_the_branches(batch_order, acting):
    arguments = {"timestep": 900, "x": [torch.zeros(1)] * 6}
    assert active_samples("cond", "batched", arguments, batch_order) == acting


class Guided:
    """A pipeline that says whether it runs classifier-free guidance, or, with None, does not."""

    def __init__(self, is_guided: bool | None) -> None:
        if is_guided is not None:
            self.do_classifier_free_guidance = is_guided


@pytest.mark.parametrize(
    ("pipeline", "samples", "running"),
    [
        (Guided(True), 2, "batched"),
        (Guided(False), 2, "cond"),  # two prompts without guidance
        (Guided(None), 2, "batched"),
        (Guided(None), 1, "cond"),
        (None, 2, "unknown"),
    ],
    ids=["guided", "unguided", "silent, two", "silent, one", "bare transformer"],
)
def test_a_batch_that_is_not_announced_holds_all_branches_if_the_pipeline_is_guided(pipeline, samples, running):
    host = HOST._replace(family=replace(WAN, time=Time(batch_order=("uncond", "cond"))))
    assert PassReader(pipeline).read(moment(1, 0), host, {"hidden_states": torch.zeros(samples, 1)}) == running
