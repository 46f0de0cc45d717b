"""What a timestep is a view of, and which schedule that is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from alignvid.host.given import Given
from alignvid.host.transformers import Host
from alignvid.models.builtin.wan import FAMILY as WAN
from alignvid.models.family import Time

HOST = Host("transformer", nn.Identity(), nn.Identity(), WAN)
FRACTIONS = HOST._replace(family=replace(WAN, time=Time(scale=1.0)))
ASCENDING = HOST._replace(family=replace(WAN, time=Time(scale=1.0, is_ascending=True)))


def given(timestep: object, host: Host = HOST) -> Given:
    return Given(host, {"timestep": timestep})


@pytest.mark.parametrize(
    ("timesteps", "host", "levels"),
    [
        ([1000.0, 750.0, 0.5], HOST, [1.0, 0.75, 0.0005]),
        ([1.0, 0.75, 0.25], FRACTIONS, [1.0, 0.75, 0.25]),
        ([0.0, 0.25, 0.75], ASCENDING, [1.0, 0.75, 0.25]),
        ([-0.2, -0.1, 0.5], ASCENDING, [1.0, 1.0, 0.5]),
        ([1.0, 0.5, 0.0], FRACTIONS, [1.0, 0.5]),
        ([0.0, -0.25], HOST, [0.5, 1 / (1 + torch.e)]),
    ],
    ids=["thousands", "fractions", "ascending", "ascending from below 0", "with its end", "logarithms of sigma"],
)
def test_numbers_that_run_from_noise_to_none_are_a_schedule(timesteps, host, levels):
    whole = torch.tensor(timesteps)
    assert given(whole[1], host).schedule() == pytest.approx(levels)


def test_the_last_whole_timestep_is_run_even_if_it_is_0():
    assert given(torch.tensor([999, 500, 0])[0]).schedule() == pytest.approx([0.999, 0.5, 0.0])


@pytest.mark.parametrize("timesteps", [[500.0, 1000.0, 250.0], [500.0, 500.0]], ids=str)
def test_numbers_in_another_order_are_none(timesteps):
    assert given(torch.tensor(timesteps)[0]).schedule() is None


@pytest.mark.parametrize(
    "timestep", [torch.tensor([500.0]), torch.tensor([500.0, 400.0]), 500.0, torch.zeros(20_000)[3]], ids=str
)
def test_a_timestep_in_memory_of_its_own_is_a_view_of_no_schedule(timestep):
    assert given(timestep).whole is None and given(timestep).schedule() is None


def test_a_view_is_found_by_its_place_also_expanded_and_in_every_second_timestep():
    whole = torch.tensor([1000.0, 800.0, 600.0, 400.0])
    assert given(whole[2]).offset_in(whole) == 2
    assert given(whole[2:3].expand(5)).offset_in(whole) == 2
    assert given(whole[2]).offset_in(whole[::2]) == 1
    assert given(whole[2]).offset_in(whole[1:]) == 1
    assert given(whole[0]).offset_in(whole[1:]) is None


def test_a_view_is_not_found_among_other_numbers_or_in_a_table():
    whole = torch.tensor([1000.0, 800.0, 600.0, 400.0])
    assert given(whole[2].clone()).offset_in(whole) is None
    assert given(whole[2]).offset_in(whole.view(2, 2)) is None
    assert given(whole[:2]).offset_in(whole) is None
    assert given(whole[2]).offset_in(whole.tolist()) is None


def test_one_tensor_is_read_once_until_it_is_changed_in_place():
    timestep = torch.tensor([900.0])
    first = given(timestep)
    assert first.level == pytest.approx(0.9)
    assert given(timestep).or_same(first) is first
    assert given(timestep.clone()).or_same(first) is not first
    timestep.fill_(300.0)
    later = given(timestep).or_same(first)
    assert later is not first and later.level == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("dtype", "least", "most"),
    [(torch.float32, 1.1e-3, 1.2e-3), (torch.bfloat16, 8e-3, 1e-2), (torch.int64, 1e-3, 2e-3)],
)
def test_a_rounded_timestep_may_lie_further_from_its_step(dtype, least, most):
    assert least <= given(torch.tensor([900]).to(dtype)).tolerance <= most
