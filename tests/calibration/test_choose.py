"""Blocks are chosen by their mean ratio; intervals come from a bootstrap over pairs."""

import numpy as np
import pytest

from alignvid.calibration.choose import block_ratios, check_choice, chosen_blocks
from alignvid.calibration.measure import Block
from alignvid.errors import InputError, MissingExtra

BLOCKS = [Block("double", 0), Block("single", 0), Block("single", 1), Block("single", 2)]
RATIOS = np.random.default_rng(0).normal([0.7, 0.6, 0.4, 0.5], [0.1, 0.1, 0.1, 0.0], (60, 4))


def chosen(tau=0.5, usable=BLOCKS):
    return block_ratios(RATIOS, BLOCKS, tau=tau, usable=usable, seed=0)


def test_blocks_above_tau_are_chosen_and_one_at_tau_is_not():
    assert chosen_blocks(chosen()) == {"double": [0], "single": [0]}


def test_blocks_that_the_recipe_cannot_act_in_are_measured_and_not_chosen():
    measured = chosen(usable=BLOCKS[1:])
    assert chosen_blocks(measured) == {"single": [0]}
    assert len(measured) == 4


def test_an_interval_is_that_of_the_mean():
    first, *_, constant = chosen()
    reach = 1.96 * RATIOS[:, 0].std() / np.sqrt(60)
    assert (first.low, first.high) == pytest.approx((first.ratio - reach, first.ratio + reach), abs=0.003)
    assert constant.low == constant.high == pytest.approx(0.5)


def test_intervals_are_the_same_every_time():
    assert chosen() == chosen()


def test_no_block_above_tau_names_the_largest():
    with pytest.raises(
        InputError, match=r"above tau 0.9: the largest is 0.6\d+, of block 0 of `double`. Give a smaller"
    ):
        check_choice(chosen(tau=0.9), BLOCKS, 0.9)


def test_every_block_above_tau_is_said_aloud():
    assert "larger --tau chooses" in str(check_choice(chosen(tau=0.1), BLOCKS, 0.1))
    assert check_choice(chosen(), BLOCKS, 0.5) is None


def test_a_missing_scipy_names_the_line_to_type(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.stats", None)
    with pytest.raises(MissingExtra, match=r'pip install "alignvid\[calibrate\]"'):
        chosen()
