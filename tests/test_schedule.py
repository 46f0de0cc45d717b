"""When: step windows and schedules, at their edges."""

from __future__ import annotations

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from alignvid.blocks import BlockSet
from alignvid.errors import ScheduleError
from alignvid.host.noise import noise_levels
from alignvid.schedule import FlowSchedule, StepWindow


def flow_levels(count: int, shift: float) -> list[float]:
    """Noise levels of a shifted flow schedule, written out here independently."""
    unshifted = [1 - step / count for step in range(count)]
    return [shift * level / (1 + (shift - 1) * level) for level in unshifted]


@pytest.mark.parametrize(
    ("window", "count", "active"),
    [
        (StepWindow.fraction(0.0, 0.3), 40, range(12)),
        (StepWindow.fraction(0.0, 0.3), 10, range(3)),
        (StepWindow.fraction(0.0, 0.3), 4, range(2)),
        (StepWindow.fraction(0.0, 0.3), 1, range(1)),
        (StepWindow.fraction(0.35, 0.65), 20, range(7, 13)),
        (StepWindow.fraction(0.7, 1.0), 10, range(7, 10)),
        (StepWindow.all(), 7, range(7)),
        (StepWindow.none(), 7, ()),
    ],
    ids=str,
)
def test_fraction_window_is_half_open(window, count, active):
    is_active = window.active_steps(flow_levels(count, 3.0))
    assert [step for step in range(count) if is_active[step]] == list(active)


def test_adjacent_fraction_windows_share_no_step_and_leave_none_out():
    for count in range(1, 60):
        first = [StepWindow.fraction(0.0, 0.3).contains(step / count) for step in range(count)]
        second = [StepWindow.fraction(0.3, 1.0).contains(step / count) for step in range(count)]
        assert all(one != other for one, other in zip(first, second, strict=True)), count


@pytest.mark.parametrize(("shift", "share"), [(1, 0.10), (3, 0.25), (5, 0.36), (7, 0.44), (12, 0.57)])
def test_released_gate_covers_the_share_of_steps_that_its_shift_implies(shift, share):
    count = 1000
    active = StepWindow.noise_above(0.9).active_steps(flow_levels(count, shift))
    assert sum(active) / count == pytest.approx(share, abs=0.005)


@pytest.mark.parametrize(
    ("timestep", "is_early", "is_mid"),
    [(1000, True, False), (901, True, False), (900, False, True), (600, False, False)],
)
def test_noise_windows_are_open_below_and_closed_above(timestep, is_early, is_mid):
    (level,) = noise_levels([timestep], 1000)
    assert StepWindow.noise_above(0.9).contains(level) is is_early
    assert StepWindow.noise(0.6, 0.9).contains(level) is is_mid


@pytest.mark.parametrize(
    "timesteps",
    [[1000.0, 950.0, 900.0, 300.0], [1.0, 0.95, 0.9, 0.3], [0.0, 0.05, 0.1, 0.7], [0.0, 50.0, 100.0, 700.0]],
    ids=["descending 1000", "descending 1", "ascending 1", "ascending 1000"],
)
def test_released_gate_means_the_same_on_every_time_axis(timesteps):
    levels = noise_levels(timesteps, 1000)
    assert StepWindow.noise_above(0.9).active_steps(levels) == (True, True, False, False)


@pytest.mark.parametrize(
    ("window", "step"),
    [(StepWindow.fraction(0.30, 0.31), 1), (StepWindow.fraction(0.9, 0.95), 3), (StepWindow.noise_above(0.999), 0)],
    ids=str,
)
def test_a_window_between_two_steps_acts_at_the_nearest(window, step):
    levels = [0.97, 0.8, 0.5, 0.2]
    assert [index for index, active in enumerate(window.active_steps(levels)) if active] == [step]


@pytest.mark.parametrize(
    ("window", "step"),
    [
        (StepWindow.noise(0.6, 0.75), 1),  # its middle is nearer to 0.5, its end to 0.9
        (StepWindow.noise(0.65, 0.85), 0),  # its middle is nearer to 0.9, its start to 0.5
        (StepWindow.noise(0.12, 0.18), 2),
    ],
    ids=str,
)
def test_a_noise_window_between_two_steps_acts_at_the_step_nearest_to_its_middle(window, step):
    assert window.active_steps([0.9, 0.5, 0.1]) == tuple(index == step for index in range(3))


def test_no_steps_means_no_active_step():
    assert StepWindow.fraction(0.0, 0.3).active_steps([]) == ()


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("0.0-0.3", StepWindow.fraction(0.0, 0.3)),
        ("0,1", StepWindow.all()),
        ("noise>0.9", StepWindow.noise_above(0.9)),
        ("noise:0.6-0.9", StepWindow.noise(0.6, 0.9)),
        ("all", StepWindow.all()),
        ("none", StepWindow.none()),
        ((0.1, 0.2), StepWindow.fraction(0.1, 0.2)),
    ],
)
def test_step_window_reads_what_users_write(text, window):
    assert StepWindow.of(text) == window


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "0.3",
        "early",
        "0.5-0.2",
        (0.3, 0.3),
        (0.0, 1.1),
        (-0.1, 0.5),
        (0.0, float("nan")),
        ("0", "1"),
        (0.1,),
        3,
        (0, True),
    ],
    ids=repr,
)
def test_windows_without_a_step_or_a_meaning_are_refused(wrong):
    with pytest.raises(ScheduleError):
        StepWindow.of(wrong)


def test_the_message_of_an_empty_window_says_how_to_act_at_no_step():
    with pytest.raises(ScheduleError, match=r"contains no step.*StepWindow.none\(\)"):
        StepWindow.fraction(0.3, 0.3)


@pytest.mark.parametrize(
    "window",
    [
        StepWindow.none(),
        StepWindow.noise_above(0.9),
        StepWindow("noise", 0.9, 1.0, "bfloat16"),
        StepWindow.fraction(0.1, 0.4),
    ],
    ids=str,
)
def test_step_window_round_trips(window):
    assert StepWindow.from_dict(window.to_dict()) == window


def test_a_window_says_its_precision_only_where_it_rounds():
    """A recipe's dict is in the digests of jobs: what is said there for the first time makes all of them new."""
    assert StepWindow.noise_above(0.9).to_dict() == {"unit": "noise", "start": 0.9, "stop": 1.0}
    assert StepWindow("noise", 0.9, 1.0, "bfloat16").to_dict()["precision"] == "bfloat16"
    assert StepWindow.none().to_dict() == {"unit": "none"}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"start": 0.0},
        {"unit": "fraction", "end": 0.3},
        {"unit": "seconds"},
        {"unit": "noise", "precision": "half"},
        {"unit": "fraction", "precision": "bfloat16"},
    ],
)
def test_unknown_window_fields_are_refused(fields):
    with pytest.raises(ScheduleError):
        StepWindow.from_dict(fields)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (StepWindow.none(), "no step"),
        (StepWindow.all(), "0% to 100% of the steps"),
        (StepWindow.noise(0.6, 0.9), "noise level > 0.6 and <= 0.9"),
        (StepWindow.noise_above(0.9), "noise level > 0.9"),
        (StepWindow("noise", 0.9, 1.0, "bfloat16"), "noise level > 0.9, timesteps rounded to bfloat16"),
        (BlockSet.of([0, 1, 2]), "0-2"),
        (BlockSet.of({"vace_blocks": "all"}), "all of `vace_blocks`"),
    ],
)
def test_schedules_print_in_words(value, words):
    assert str(value) == words


@pytest.mark.parametrize(
    ("schedule", "levels"),
    [
        (FlowSchedule(4), [1.0, 0.75, 0.5, 0.25]),
        (FlowSchedule(4, shift=3.0), [1.0, 0.9, 0.75, 0.5]),  # 3x / (1 + 2x)
        (FlowSchedule(1, shift=7.0), [1.0]),
    ],
    ids=str,
)
def test_a_flow_schedule_is_even_steps_shifted_towards_noise(schedule, levels):
    assert schedule.noise_levels == pytest.approx(levels)


def test_a_flow_schedule_is_that_of_diffusers_for_the_same_sigmas():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=7.0)
    scheduler.set_timesteps(sigmas=[1.0 - step / 30 for step in range(30)])
    assert FlowSchedule(30, shift=7.0).noise_levels == pytest.approx((scheduler.timesteps / 1000).tolist())


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("steps", "shift", "words"),
    [(0, 1.0, "from 1 on, but 0"), (2.5, 1.0, "but 2.5"), (True, 1.0, "but True"), (4, 0.0, "above 0, but 0.0")],
)
def test_a_flow_schedule_without_steps_or_with_an_impossible_shift_is_refused(steps, shift, words):
    with pytest.raises(ScheduleError, match=words):
        FlowSchedule(steps, shift)


def test_a_window_in_bfloat16_closes_where_the_rounded_timestep_does():
    """At 30 steps and shift 7, 13 of the 14 steps above 900: that at 901.5 is 900 in bfloat16."""
    levels = FlowSchedule(30, shift=7.0).noise_levels
    exact, rounded = StepWindow.noise_above(0.9), StepWindow("noise", 0.9, 1.0, "bfloat16")
    assert (sum(exact.active_steps(levels)), sum(rounded.active_steps(levels))) == (14, 13)
    timesteps = torch.linspace(0.0, 1000.0, 4001)
    expected = (timesteps.to(torch.bfloat16) > 900).tolist()
    assert [rounded.contains(float(timestep) / 1000) for timestep in timesteps] == expected


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "text", ["9" * 100_000 + "x", "noise>" + "1" * 100_000 + "x", "0-" * 50_000, "0-" + "9" * 5_000]
)
def test_a_row_of_digits_without_end_is_refused_at_once(text):
    with pytest.raises(ScheduleError):
        StepWindow.of(text)
    with pytest.raises(ScheduleError):
        BlockSet.of(text)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"start": 0.1}, "A step window lacks the field 'unit'"),
        ({"unit": "noise", "end": 1.0}, "has no field 'end'; its fields are unit, start, stop, precision"),
        ({"unit": "noise", "start": "0.9"}, "the field 'start' is '0.9'; it must be a finite number"),
        ({"unit": "noise", "start": 10**400}, "the field 'start' is a number without end"),
    ],
    ids=repr,
)
def test_a_damaged_window_is_refused_by_its_field(fields, message):
    with pytest.raises(ScheduleError, match=message):
        StepWindow.from_dict(fields)
