"""Where: block sets, at their edges."""

from __future__ import annotations

import tracemalloc

import pytest

from alignvid.blocks import BlockSet
from alignvid.errors import ScheduleError, UnknownTarget


@pytest.mark.parametrize(
    ("written", "indices"),
    [
        ("all", (0, 1, 2, 3, 4)),
        ("first-half", (0, 1, 2)),
        ("last-half", (3, 4)),
        ("0,2-4", (0, 2, 3, 4)),
        ("3", (3,)),
        ("2-2", (2,)),
        ([4, 0, 0], (0, 4)),
        (range(2), (0, 1)),
        ({"blocks": [1]}, (1,)),
        ({"blocks": "0, 3"}, (0, 3)),
    ],
)
def test_block_set_reads_what_users_write(written, indices):
    assert BlockSet.of(written).indices("blocks", 5) == indices


def test_halves_partition_the_blocks():
    for count in range(1, 9):
        first = BlockSet.of("first-half").indices("blocks", count)
        last = BlockSet.of("last-half").indices("blocks", count)
        assert sorted(first + last) == list(range(count))


def test_block_set_of_one_stack_leaves_the_others_alone():
    blocks = BlockSet.of({"single_transformer_blocks": [0]})
    assert blocks.indices("transformer_blocks", 5) == ()


def test_unqualified_block_set_leaves_side_stacks_alone():
    assert BlockSet.of("all").indices("vace_blocks", 2, is_main=False) == ()


def test_last_block_exists_and_the_next_does_not():
    assert BlockSet.of([4]).indices("blocks", 5) == (4,)
    with pytest.raises(UnknownTarget, match=r"Block 5 of `blocks` does not exist: it has blocks 0 to 4"):
        BlockSet.of([5]).indices("blocks", 5)


@pytest.mark.parametrize("wrong", [[-1], [True], [1.0], ["0"], [], "", "0-", "a", "3-1", 7, {}, {"blocks": []}])
def test_impossible_block_sets_are_refused(wrong):
    with pytest.raises(ScheduleError):
        BlockSet.of(wrong).indices("blocks", 9)


@pytest.mark.parametrize("written", ["0,2-7", {"a": "all", "b": "0"}])
def test_block_set_round_trips(written):
    blocks = BlockSet.of(written)
    assert BlockSet.of(blocks.to_dict()) == blocks


def test_a_range_beyond_the_stack_is_refused_before_it_is_written_out():
    tracemalloc.start()
    with pytest.raises(UnknownTarget, match=r"Block 30 of `blocks` does not exist: it has blocks 0 to 29"):
        BlockSet.of("0-399999999,999999999").indices("blocks", 30)
    with pytest.raises(UnknownTarget, match="Block 30 of"):
        BlockSet.of(range(10**9)).indices("blocks", 30)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_range_that_runs_backwards_is_refused_before_a_model_is_known():
    with pytest.raises(ScheduleError, match="The range 7-2 runs backwards; write 2-7"):
        BlockSet.of("0,7-2")
