"""NAG: normalised attention guidance, a negative prompt inside cross-attention, without a second pass. The settings.

Source: arXiv 2505.21179: what the text makes of each query is pushed away from what a negative text makes of it, and
kept from growing. So a negative prompt acts at guidance 1, too, as in models distilled to a few steps. A rival of a
gain; the formula is `alignvid.attachment.effects.nag.guided`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from alignvid.errors import ModulationError
from alignvid.fields import is_finite_number
from alignvid.modulation.base import Powers, WithoutGain


@dataclass(frozen=True)
class Nag(WithoutGain):
    """Z̃ = scale·Z⁺ − (scale − 1)·Z⁻, not above tau times Z⁺ in its L1 norm; Z = alpha·Z̃ + (1 − alpha)·Z⁺."""

    kind: ClassVar[str] = "nag"
    effects: ClassVar[str] = "alignvid.attachment.effects.nag:nag_effects"
    schedule: ClassVar[tuple[str, str, str]] = ("all", "all", "cond")
    repeats_norm: ClassVar[bool] = True

    negative: str = "static, unchanged appearance"
    """What the video should not be; the default is what users write against a video that stays its picture."""
    scale: float = 11.0
    """How far from the negative; 1 changes nothing. 11 for Wan in the source."""
    tau: float = 2.5
    """How much larger the L1 norm of a token may get, at least 1."""
    alpha: float = 0.25
    """Share of what is guided in the result, from 0 to 1."""
    powers: Mapping[str, float] = field(default=Powers({"*.text": 1.0}), init=False)
    """Fixed: every cross-attention to text."""
    gamma: float = field(default=1.0, init=False)
    """No logits are multiplied."""

    def __post_init__(self) -> None:
        if not isinstance(self.negative, str):
            raise ModulationError(f"negative must be text, but {self.negative!r} was given.")
        if not is_finite_number(self.scale):
            raise ModulationError(f"scale must be a finite number, but {self.scale!r} was given.")
        if not is_finite_number(self.tau) or self.tau < 1:
            raise ModulationError(f"tau must be a finite number of 1 or more, but {self.tau!r} was given.")
        if not is_finite_number(self.alpha) or not 0 <= self.alpha <= 1:
            raise ModulationError(f"alpha must be a number from 0 to 1, but {self.alpha!r} was given.")

    @property
    def is_neutral(self) -> bool:
        """Whether nothing is changed, so that the negative text need not run."""
        return self.scale == 1.0 or self.alpha == 0.0

    def words(self, power: float) -> str:
        """Such as "guided x11 from 'static, unchanged appearance'"."""
        return f"guided x{self.scale:.4g} from {self.negative!r} (tau {self.tau:.4g}, alpha {self.alpha:.4g})"
