"""Reference weight: a gain on keys and values of the reference image, and a balance between it and the text.

Source: the rule of the reference-weight nodes that users of editing models set by hand (1.05 to 1.15), after norm and
rotary embedding. A rival of a gain on keys alone, to be compared with; applied in
`alignvid.attachment.effects.ref_kv`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from alignvid.errors import ModulationError
from alignvid.fields import is_finite_number
from alignvid.modulation.base import Powers, WithoutGain


@dataclass(frozen=True)
class RefKV(WithoutGain):
    """K and V of the reference × weight × min(1, 2(1 − balance)), those of the text × min(1, 2·balance)."""

    kind: ClassVar[str] = "ref-kv"
    acts_at_call: ClassVar[bool] = True
    effects: ClassVar[str] = "alignvid.attachment.effects.ref_kv:ref_kv_effects"
    schedule: ClassVar[tuple[str, str, str]] = ("all", "all", "both")

    weight: float = 1.1
    """Of the reference: above 1 towards the picture, below 1 away from it."""
    balance: float = 0.5
    """0: the text has no weight, 1: the reference has none; 0.5 leaves both."""
    powers: Mapping[str, float] = field(init=False)
    """The streams that have another weight than 1."""
    gamma: float = field(default=1.0, init=False)
    """Set by `weight` and `balance`."""

    def __post_init__(self) -> None:
        if not is_finite_number(self.weight) or self.weight < 0:
            raise ModulationError(f"weight must be a finite number of 0 or more, but {self.weight!r} was given.")
        if not is_finite_number(self.balance) or not 0 <= self.balance <= 1:
            raise ModulationError(
                f"balance must be a number from 0 (picture) to 1 (text), but {self.balance!r} was given."
            )
        targets = ["*.image", *(["*.text"] if self.weights["text"] != 1.0 else [])]
        object.__setattr__(self, "powers", Powers(dict.fromkeys(targets, 1.0)))

    @property
    def weights(self) -> dict[str, float]:
        """Factor on keys and values, by stream."""
        return {
            "image": self.weight * min(1.0, 2.0 * (1.0 - self.balance)),
            "text": min(1.0, 2.0 * self.balance),
        }

    def words(self, power: float) -> str:
        """Such as "keys and values: image x1.1"."""
        changed = ", ".join(f"{stream} x{weight:.4g}" for stream, weight in self.weights.items())
        return f"keys and values: {changed}"
