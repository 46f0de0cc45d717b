"""Energy-based attention scaling: a gain that is larger where attention is diffuse. The settings.

Source: Attention Scaling Modulation of arXiv 2512.01334, energy-based: γ_e = f(mean_ij q_i·k_j/√d), f sigmoid-like. The
sources do not fix f; ours is chosen in `alignvid.attachment.effects.energy.energy_gain`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from alignvid.errors import ModulationError
from alignvid.fields import is_finite_number
from alignvid.modulation.base import (
    DEFAULT_GAMMA,
    DEFAULT_POWERS,
    Modulation,
    Powers,
    check_gamma,
    factor,
)


@dataclass(frozen=True)
class Energy(Modulation):
    """A gain γ_e between `low` and `gamma`, from the mean energy of each attention, per sample and head.

    Examples:
        >>> Energy(gamma=1.5, powers={"cross.text": 1.0}).words(1.0)
        'x1 to x1.5 by energy'
        >>> Energy(low=1.5).gamma
        Traceback (most recent call last):
        alignvid.errors.ModulationError: The smallest gain low=1.5 must be positive and at most the largest, gamma=1.35.
    """

    kind: ClassVar[str] = "energy"
    acts_at_call: ClassVar[bool] = True
    effects: ClassVar[str] = "alignvid.attachment.effects.energy:energy_effects"

    gamma: float = DEFAULT_GAMMA
    """The largest gain, approached where the mean energy is low."""
    low: float = 1.0
    """The smallest gain, approached where the mean energy is high."""
    centre: float = 0.0
    """Mean energy, in units of logits, at which the gain lies midway."""
    width: float = 1.0
    """How many logits it takes to move through the middle of the sigmoid."""
    powers: Mapping[str, float] = field(default_factory=lambda: DEFAULT_POWERS)
    """Power of γ_e by target, `site.stream`."""
    is_rotated: bool = False
    """Whether the energy is that of queries and keys after rotary embedding, as the softmax has it: measured at the
    attention call of self- and joint attention, in place of the norms."""

    def __post_init__(self) -> None:
        check_gamma(self.gamma)
        if not is_finite_number(self.low) or not 0 < self.low <= self.gamma:
            raise ModulationError(
                f"The smallest gain low={self.low!r} must be positive and at most the largest, gamma={self.gamma:g}."
            )
        if not is_finite_number(self.centre):
            raise ModulationError(f"centre must be a finite number of logits, but {self.centre!r} was given.")
        if not is_finite_number(self.width) or self.width <= 0:
            raise ModulationError(f"width must be a finite positive number of logits, but {self.width!r} was given.")
        object.__setattr__(self, "powers", Powers(self.powers))

    def gain(self, target: str) -> float:
        """The largest factor on the logits of a target's keys."""
        power = self.powers[target]
        return factor(self.gamma if power >= 0 else self.low, power, target)

    def words(self, power: float) -> str:
        """Such as "x1 to x1.35 by energy"."""
        return f"x{self.low**power:.4g} to x{self.gamma**power:.4g} by energy"
