"""Scalar attention scaling: one constant gain per target. The paper's main setting.

Source: Attention Scaling Modulation of arXiv 2512.01334, K' = γK.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from alignvid.modulation.base import DEFAULT_GAMMA, DEFAULT_POWERS, Modulation, Powers, check_gamma, factor


@dataclass(frozen=True)
class Scalar(Modulation):
    """The paper's main setting: one constant gain per target, `gamma ** power`.

    Examples:
        >>> Scalar(1.5, {"cross.text": 2.0, "cross.image": 1.0}).gain("cross.text")
        2.25
        >>> Scalar(0.0)
        Traceback (most recent call last):
        alignvid.errors.ModulationError: gamma must be a finite positive number, but 0.0 was given; the paper uses 1.35.
    """

    kind: ClassVar[str] = "scalar"
    effects: ClassVar[str] = "alignvid.attachment.effects.words:gain_effects"
    takes_inner_streams: ClassVar[bool] = True
    is_uniform: ClassVar[bool] = True

    gamma: float = DEFAULT_GAMMA
    """Factor on attention logits; above 1 sharpens, 1 changes nothing."""
    powers: Mapping[str, float] = field(default_factory=lambda: DEFAULT_POWERS)
    """Power of gamma by target, `site.stream`."""
    shares_with_guidance: bool = False
    """Whether, in a run with classifier-free guidance of scale s above 1, each gain is its s-th root: guidance
    multiplies what the gain changes in the conditional pass."""

    def __post_init__(self) -> None:
        check_gamma(self.gamma)
        object.__setattr__(self, "powers", Powers(self.powers))

    def gain(self, target: str) -> float:
        """Factor on the logits of a target's keys. Raises: ModulationError if it is too large for a float."""
        return factor(self.gamma, self.powers[target], target)

    def words(self, power: float) -> str:
        """Such as "x1.35"."""
        return f"x{self.gamma**power:.4g}{', under guidance s its s-th root' if self.shares_with_guidance else ''}"

    def to_dict(self) -> dict[str, Any]:
        """As of every kind; what most recipes do not have is left out."""
        values = super().to_dict()
        if not self.shares_with_guidance:
            del values["shares_with_guidance"]
        return values
