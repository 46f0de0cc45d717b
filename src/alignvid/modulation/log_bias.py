"""Log-bias: a constant on the logits of a stream. One step beyond the paper: it moves attention between streams."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from alignvid.modulation.base import DEFAULT_GAMMA, Powers, WithoutGain, check_gamma


@dataclass(frozen=True)
class LogBias(WithoutGain):
    """Adds `power · ln(gamma)` to a target's logits: its odds against other streams are multiplied by gamma^power.

    Examples:
        >>> LogBias(2.0, {"single.text": 1.0}).words(1.0)
        'logits +0.6931'
        >>> LogBias(2.0).gain("single.text")  # multiplies no logits
        1.0
    """

    kind: ClassVar[str] = "log-bias"
    effects: ClassVar[str] = "alignvid.attachment.effects.log_bias:log_bias_effects"
    acts_at_call: ClassVar[bool] = True
    takes_inner_streams: ClassVar[bool] = True

    gamma: float = DEFAULT_GAMMA
    """Factor on the odds of attending to a target; above 1 draws attention to it, 1 changes nothing."""
    powers: Mapping[str, float] = field(default_factory=lambda: {"*.text": 1.0})
    """Power of gamma by target, `site.stream`."""

    def __post_init__(self) -> None:
        check_gamma(self.gamma)
        object.__setattr__(self, "powers", Powers(self.powers))

    def bias(self, power: float) -> float:
        """What is added to the logits of a target of that power."""
        return power * math.log(self.gamma)

    def words(self, power: float) -> str:
        """Such as "logits +0.3"."""
        return f"logits {self.bias(power):+.4g}"
