"""How long the loop may go on: so many attempts, or so many minutes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from alignvid.errors import InputError

DEFAULT_ATTEMPTS = 6
MOST_ATTEMPTS = 1_000


@dataclass(frozen=True)
class Limits:
    """At most so many attempts, or attempts that begin within so many minutes; the first is always made."""

    attempts: int | None
    minutes: float | None = None

    @classmethod
    def of(cls, budget: int | None, minutes: float | None) -> Limits:
        """What a user gave; neither is six attempts.

        Raises: InputError if both are given, or one cannot be.
        """
        if budget is not None and minutes is not None:
            raise InputError(
                f"A budget of {budget!r} attempts and {minutes!r} minutes are two limits; give one of them."
            )
        if minutes is not None:
            if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not 0 < minutes < math.inf:
                raise InputError(f"minutes {minutes!r} is out of range; give a number above 0, such as 20.")
            return cls(None, float(minutes))
        attempts = DEFAULT_ATTEMPTS if budget is None else budget
        if isinstance(attempts, bool) or not isinstance(attempts, int) or not 1 <= attempts <= MOST_ATTEMPTS:
            raise InputError(
                f"budget {attempts!r} is out of range; give a number of attempts from 1 to {MOST_ATTEMPTS:,}."
            )
        return cls(attempts)

    def are_reached(self, attempts: int, seconds: float) -> bool:
        """After so many attempts that took so long, made now or in earlier runs of the same folder."""
        if self.attempts is not None:
            return attempts >= self.attempts
        return attempts > 0 and self.minutes is not None and seconds >= 60 * self.minutes

    def __str__(self) -> str:
        return f"{self.attempts} attempts" if self.attempts is not None else f"{self.minutes:g} minutes"
