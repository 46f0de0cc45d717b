"""Where a gain acts: the block set, which chooses block indices per stack.

A plain value: it knows nothing of a model until it is asked about one.

Source: Guidance Scheduling of arXiv 2512.01334 (block level).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from alignvid.errors import ScheduleError, UnknownTarget

MAIN_STACKS = "*"
"""Key of a `BlockSet` for every main stack of the model (what an unqualified list of blocks means)."""

_NAMED_SELECTIONS = ("all", "first-half", "last-half")
_RANGES = re.compile(r"[0-9]{1,9}(-[0-9]{1,9})?(,[0-9]{1,9}(-[0-9]{1,9})?)*")


@dataclass(frozen=True)
class BlockSet:
    """A choice of blocks, per stack.

    A selection is "all", "first-half", "last-half" or ranges such as "0,2-7,10-20" (both ends included).

    Examples:
        >>> BlockSet.of("0,2-4").indices("blocks", count=6)
        (0, 2, 3, 4)
        >>> BlockSet.of("first-half").indices("blocks", count=6)
        (0, 1, 2)
        >>> print(BlockSet.of({"transformer_blocks": "all", "single_transformer_blocks": [0, 1, 2]}))
        0-2 of `single_transformer_blocks`; all of `transformer_blocks`
    """

    selections: tuple[tuple[str, str], ...]
    """Pairs of a stack's name (or "*" for every main stack) and a selection, sorted by stack."""

    def __post_init__(self) -> None:
        if not self.selections:
            raise ScheduleError("A block set without a stack selects nothing; write 'all', 'first-half' or '0,2-7'.")
        for stack, selection in self.selections:
            _check_selection(stack, selection)

    @classmethod
    def of(cls, value: BlockSet | str | Iterable[int] | Mapping[str, Any]) -> BlockSet:
        """Read what users write: "first-half", "0,2-7", [0, 2], {"single_transformer_blocks": [0, 2]} or a BlockSet.

        Raises: ScheduleError if the value is none of these.
        """
        if isinstance(value, BlockSet):
            return value
        if isinstance(value, Mapping):
            return cls(tuple(sorted((str(stack), _as_selection(chosen)) for stack, chosen in value.items())))
        return cls(((MAIN_STACKS, _as_selection(value)),))

    def indices(self, stack: str, count: int, *, is_main: bool = True) -> tuple[int, ...]:
        """Chosen block indices of a stack of `count` blocks, ascending; empty if the stack is not named.

        Raises: UnknownTarget if an index does not exist in the stack.
        """
        selections = dict(self.selections)
        selection = selections.get(stack, selections.get(MAIN_STACKS) if is_main else None)
        if selection is None:
            return ()
        if selection in _NAMED_SELECTIONS:
            return _named_indices(selection, count)
        ranges = _ranges(selection)
        if missing := [max(first, count) for first, last in ranges if last >= count]:  # before a range is written out
            raise UnknownTarget(
                f"Block {min(missing)} of `{stack}` does not exist: it has blocks 0 to {count - 1}. Choose among them."
            )
        return tuple(sorted({index for first, last in ranges for index in range(first, last + 1)}))

    @property
    def stacks(self) -> tuple[str, ...]:
        """Names of the stacks that are chosen by name."""
        return tuple(stack for stack, _ in self.selections if stack != MAIN_STACKS)

    def to_dict(self) -> str | dict[str, str]:
        """A selection if it is for every main stack, else a dict by stack."""
        selections = dict(self.selections)
        return selections[MAIN_STACKS] if set(selections) == {MAIN_STACKS} else selections

    def __str__(self) -> str:
        return "; ".join(
            selection if stack == MAIN_STACKS else f"{selection} of `{stack}`" for stack, selection in self.selections
        )


def _as_selection(value: Any) -> str:
    if isinstance(value, str):
        return value.replace(" ", "")
    if not isinstance(value, Iterable):
        raise ScheduleError(f"{value!r} is not a set of blocks; write [0, 2], '0,2-7', 'all' or 'first-half'.")
    if isinstance(value, range) and value.step == 1 and value.start >= 0 and len(value):
        return f"{value.start}-{value.stop - 1}"  # as it is, for it may be endless
    blocks = list(value)
    wrong = [block for block in blocks if isinstance(block, bool) or not isinstance(block, int) or block < 0]
    if wrong:
        raise ScheduleError(f"Block {wrong[0]!r} is not an index; blocks are numbered 0, 1, 2 …")
    return _join_ranges(sorted(set(blocks)))


def _join_ranges(blocks: list[int]) -> str:
    """[0, 2, 3, 4] -> "0,2-4"."""
    runs: list[list[int]] = []
    for block in blocks:
        if runs and block == runs[-1][1] + 1:
            runs[-1][1] = block
        else:
            runs.append([block, block])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _check_selection(stack: str, selection: str) -> None:
    if not selection:
        raise ScheduleError(f"The block set of `{stack}` is empty; name at least one block, or 'all' or 'first-half'.")
    if selection not in _NAMED_SELECTIONS and not _RANGES.fullmatch(selection):
        raise ScheduleError(
            f"{selection!r} is not a set of blocks; write 'all', 'first-half', 'last-half' or ranges such as '0,2-7'."
        )
    if selection not in _NAMED_SELECTIONS:
        _ranges(selection)


def _named_indices(selection: str, count: int) -> tuple[int, ...]:
    if selection == "all":
        return tuple(range(count))
    half = (count + 1) // 2  # with an odd count the middle block belongs to the first half
    if selection == "first-half":
        return tuple(range(half))
    return tuple(range(half, count))


def _ranges(selection: str) -> list[tuple[int, int]]:
    """First and last block of each part. Raises: ScheduleError if one runs backwards."""
    ranges = []
    for part in selection.split(","):
        first, _, last = part.partition("-")
        if last and int(last) < int(first):
            raise ScheduleError(f"The range {part} runs backwards; write {last}-{first}.")
        ranges.append((int(first), int(last or first)))
    return ranges
