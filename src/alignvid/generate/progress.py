"""What a generation is doing at the moment, for who watches."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from tqdm import tqdm

Stage = Literal["loading", "steps", "decoding", "encoding"]


@dataclass(frozen=True)
class Progress:
    """A stage that begins, or one more step."""

    stage: Stage
    role: str | None = None
    """Of the video at hand: "baseline" or "alignvid"; None for what belongs to all."""
    done: int = 0
    """Steps."""
    total: int | None = None
    """Steps; None where steps are not counted."""


OnProgress = Callable[[Progress], None]


def unwatched(progress: Progress) -> None:
    """Nobody watches."""


@contextmanager
def steps_reported(pipeline: Any, role: str, steps: int, report: OnProgress) -> Iterator[None]:
    """Report each step of the pipeline's loop inside the block, in place of its own bar.

    Args:
        pipeline: It asks its `progress_bar` for a bar in each loop, as diffusers' pipelines do.
        role: Of the video.
        steps: To say before the loop begins, where the text is read.
        report: Is called with each step.
    """

    class _Reported(tqdm):
        """A bar that draws nothing."""

        def __init__(self, iterable: Any = None, total: int | None = None) -> None:
            super().__init__(iterable, total=total, file=io.StringIO())
            self._done = 0

        def __iter__(self) -> Iterator[Any]:
            for item in self.iterable:
                yield item
                self.update()
            self.close()

        def update(self, n: float | None = 1) -> None:
            self._done += int(n or 0)
            report(Progress("steps", role, self._done, int(self.total or steps)))

        def close(self) -> None:
            if not self.disable:
                report(Progress("decoding", role))
            super().close()

    report(Progress("steps", role, 0, steps))
    pipeline.progress_bar = lambda iterable=None, total=None: _Reported(iterable, total)
    try:
        yield
    finally:
        del pipeline.progress_bar
