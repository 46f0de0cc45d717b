"""DyMoS: a constant taken from the logits of the first latent frame's keys, so that a video leaves its picture.

Source: arXiv 2605.19398: z_ij ← z_ij − penalty for the keys j of the first latent frame and all queries, in every
self-attention, in the conditional pass, in the first 8 of 40 steps. The settings; applied in
`alignvid.attachment.effects.dymos`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from alignvid.errors import ModulationError
from alignvid.fields import is_finite_number
from alignvid.modulation.base import Powers, WithoutGain


@dataclass(frozen=True)
class DyMoS(WithoutGain):
    """Attention to the first latent frame is made less likely: its odds are multiplied by e^−penalty."""

    kind: ClassVar[str] = "dymos"
    acts_at_call: ClassVar[bool] = True
    effects: ClassVar[str] = "alignvid.attachment.effects.dymos:dymos_effects"
    schedule: ClassVar[tuple[str, str, str]] = ("all", "0.0-0.2", "cond")

    penalty: float = 0.6
    """What is taken from the logits; the source's γ. 0 changes nothing."""
    powers: Mapping[str, float] = field(default=Powers({"*.video": 1.0}), init=False)
    """Fixed: every attention with keys of the video."""
    gamma: float = field(default=1.0, init=False)
    """No logits are multiplied."""

    def __post_init__(self) -> None:
        if not is_finite_number(self.penalty):
            raise ModulationError(f"penalty must be a finite number of logits, but {self.penalty!r} was given.")

    def words(self, power: float) -> str:
        """Such as "first latent frame's logits -0.6"."""
        return f"first latent frame's logits {-self.penalty:+.4g}"
