"""Every error that alignvid raises on purpose.

    AlignvidError
    ├── ScheduleError           a block set or step window that cannot be
    ├── ModulationError         a gain that cannot be
    ├── RecipeError             a recipe that contradicts itself, or a field it does not have
    │   └── UnknownPreset       no preset of that name, or a preset of another model family
    ├── UnsupportedModel        no family knows this transformer or pipeline
    ├── UnknownTarget           a block, stack, site or stream that the model does not have
    ├── WordError               a word that is not in the prompt, or that cannot be found in it
    ├── AttachmentError         the model cannot be attached to in its present state
    │   └── ContractError       with strict=True: what is a ContractWarning without it
    ├── ObservationError        the model cannot be observed in its present state, or nothing was observed
    ├── TraceError              a trace cannot be read, asked or compared
    ├── PictureError            numbers, frames or maps that cannot be drawn
    ├── ClockError              the step or noise level of a running model is not known
    ├── InputError              an image, prompt, jobs file or model folder that cannot be used
    │   └── UnreadableFile      a file that is missing, no regular file, too large or cannot be read
    ├── JudgeError              a judge of a loop that gives no answers that can be used
    ├── OutputError             a result that cannot be written
    └── MissingExtra            an optional dependency is not installed

Each message says the value given, the values allowed and what to do. The command line prints it as one sentence and
exits 2.
"""

from collections.abc import Sequence
from typing import Any


class AlignvidError(Exception):
    """Base of every error raised on purpose by this package.

    Examples:
        >>> try:
        ...     StepWindow.of((0.5, 0.2))
        ... except AlignvidError as error:
        ...     print(type(error).__name__)
        ScheduleError
        >>> issubclass(AlignvidError, Exception)
        True
    """


class ScheduleError(AlignvidError, ValueError):
    """A block set or a step window is not valid, or contains nothing."""


class ModulationError(AlignvidError, ValueError):
    """A gain is not a finite positive number, or a modulation does not fit the site."""


class RecipeError(AlignvidError, ValueError):
    """A recipe has an unknown field, a missing field or fields that contradict each other."""


class UnknownPreset(RecipeError):
    """No preset of that name exists, or none fits the model."""


class UnsupportedModel(AlignvidError, TypeError):
    """No registered family describes this pipeline or transformer."""


class UnknownTarget(AlignvidError, LookupError):
    """A recipe names a stack, block, site or stream that the model does not have."""


class WordError(AlignvidError, LookupError):
    """A word is not among the prompt's tokens, or which tokens are words is not known."""


class AttachmentError(AlignvidError, RuntimeError):
    """The model's present state does not allow attaching (already attached, on meta, half built)."""


class ContractError(AttachmentError):
    """A gain does not act as its recipe says, or that cannot be known; of an attachment with strict=True."""


class ContractWarning(UserWarning):
    """A gain does not act as its recipe says, or that cannot be known. With strict=True it is a ContractError."""


class ClockError(AlignvidError, RuntimeError):
    """Neither the scheduler nor the timestep says which denoising step is running."""


class ObservationError(AlignvidError, RuntimeError):
    """The model cannot be observed in its present state, or nothing was observed."""


class TraceError(AlignvidError, ValueError):
    """A trace cannot be read, has nothing that was asked for, or does not fit the one it is compared with."""


class PictureError(AlignvidError, ValueError):
    """There is nothing to draw, a number is not finite, or frames and map do not fit each other."""


class InputError(AlignvidError, ValueError):
    """A user's image, prompt, jobs file or model folder cannot be used."""


class UnreadableFile(InputError):
    """A file from outside that is missing, no regular file, too large, or cannot be read."""

    def __init__(self, path: str, reason: str, *, is_missing: bool = False) -> None:
        super().__init__(f"{path!r} cannot be read: {reason}.")
        self.reason = reason
        self.is_missing = is_missing


class JudgeError(AlignvidError, RuntimeError):
    """The judge of a loop failed, or what it gave are no answers."""

    def __init__(self, message: str, *, attempts: Sequence[Any] = ()) -> None:
        """What is wrong, and the attempts before (`alignvid.following.Attempt`)."""
        super().__init__(message)
        self.attempts = tuple(attempts)


class OutputError(AlignvidError, OSError):
    """A result cannot be written where the user asked for it."""


class MissingExtra(AlignvidError, ImportError):
    """An optional dependency is missing; the message holds the pip line that installs it."""


def pass_on_interrupt(error: Exception) -> None:
    """Where one failure must not end the others: a Ctrl-C must.

    Raises: KeyboardInterrupt if one is behind the error.
    """
    if is_interrupt(error):
        raise KeyboardInterrupt from error


def is_interrupt(error: BaseException | None) -> bool:
    """Whether a Ctrl-C is behind an error: libraries that clean up after one may fail at it, and say something else."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, KeyboardInterrupt):
            return True
        if one is not None and one not in seen:
            seen.append(one)
            waiting += [one.__cause__, one.__context__]
    return False
