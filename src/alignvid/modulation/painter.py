"""Painter: the later frames of an image-to-video condition, pushed away from its first one.

Source: the rule of PainterI2V. A rival without attention, to be compared with. The settings; the formula is
`alignvid.attachment.effects.painter.pushed_away`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from alignvid.errors import ModulationError
from alignvid.fields import is_finite_number
from alignvid.modulation.base import WithoutGain


@dataclass(frozen=True)
class Painter(WithoutGain):
    """c_t ← clamp(c_0 + amount · (d − m) + m, −6, 6) for latent frames t ≥ 1, d = c_t − c_0 and m its mean."""

    kind: ClassVar[str] = "painter"
    effects: ClassVar[str] = "alignvid.attachment.effects.painter:painter_effects"
    schedule: ClassVar[tuple[str, str, str]] = ("all", "all", "both")

    amount: float = 1.15
    """1 to 2 in the source; 1 changes nothing, and clamps nothing."""
    powers: Mapping[str, float] = field(default_factory=dict, init=False)
    """None: it acts on the transformer's input; the block set is not used."""
    gamma: float = field(default=1.0, init=False)
    """No logits are multiplied."""

    def __post_init__(self) -> None:
        if not is_finite_number(self.amount) or self.amount < 0:
            raise ModulationError(f"amount must be a finite number of 0 or more, but {self.amount!r} was given.")

    def __hash__(self) -> int:
        return hash((self.kind, self.amount))

    def words(self, power: float) -> str:
        """Such as "later frames of the condition x1.15 from the first"."""
        return f"later frames of the condition x{self.amount:.4g} from the first"
