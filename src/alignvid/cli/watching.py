"""What `generate` and `demo` say while they run: what was chosen, each stage, every step."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from alignvid.cli.terminal import say, shows_progress

if TYPE_CHECKING:
    from alignvid.generate.progress import Progress

_VIDEO = {"baseline": "without AlignVid", "alignvid": "with AlignVid"}


def say_starting() -> None:
    """Reading PyTorch and diffusers takes seconds; who watches is not left without a word."""
    if shows_progress():
        say("loading PyTorch and diffusers")


def say_lines(lines: Mapping[str, str]) -> None:
    """A text under each heading, folded to a terminal; a line for each in a pipe."""
    columns = shutil.get_terminal_size().columns if shows_progress() else sys.maxsize
    indent = max(map(len, lines)) + 2
    for heading, text in lines.items():
        first = f"{heading:{indent}}"
        options = {"initial_indent": first, "subsequent_indent": " " * indent, "break_on_hyphens": False}
        say(textwrap.fill(text, max(40, columns - 1), **options))


class Watch:
    """A line for each stage, and on a terminal a bar of the steps."""

    def __init__(self, *, is_for_many: bool = False) -> None:
        """Args: is_for_many: of many videos, whose stages are shown only on a terminal."""
        self._is_quiet = is_for_many and not shows_progress()
        self._bar: Any = None

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *error: object) -> None:
        self._end_bar()

    def show(self, progress: Progress) -> None:
        """What begins, or one more step."""
        if self._is_quiet:
            return
        if progress.stage == "steps":
            self._step(progress)
            return
        self._end_bar()
        of_what = f" the video {_VIDEO[progress.role]}" if progress.role else ""
        say({"loading": "loading the model", "encoding": "encoding"}.get(progress.stage, progress.stage) + of_what)

    def _step(self, progress: Progress) -> None:
        name = _VIDEO[progress.role or "alignvid"]
        if not shows_progress():
            if progress.done == 0:
                say(f"{name}: {progress.total} steps")
            return
        from tqdm import tqdm

        if progress.done == 0:
            self._end_bar()
        if self._bar is None:
            self._bar = tqdm(total=progress.total, desc=name, unit="step", dynamic_ncols=True)
        self._bar.total = progress.total
        self._bar.n = progress.done
        self._bar.refresh()

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
