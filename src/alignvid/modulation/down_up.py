"""Down-up: the reference's latents scaled down and up again in the early steps, so that its details do not bind.

Source: the low-pass of adaptive low-pass guidance, ALG, arXiv 2506.08456. It is not the whole of that method: with
guidance above 1 ALG runs a third pass, so that guidance is taken between two passes of the low-passed reference. Here
the conditional pass alone gets it. Without guidance (a scale of 1) there is one pass, and what is left of ALG is this.
The settings; the formula is `alignvid.attachment.effects.down_up.down_up`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from alignvid.errors import ModulationError
from alignvid.fields import is_finite_number
from alignvid.modulation.base import WithoutGain


@dataclass(frozen=True)
class DownUp(WithoutGain):
    """up(down(c, ratio)), bilinear and antialiased, of the whole condition, per latent frame."""

    kind: ClassVar[str] = "down-up"
    effects: ClassVar[str] = "alignvid.attachment.effects.down_up:down_up_effects"
    schedule: ClassVar[tuple[str, str, str]] = ("all", "0.0-0.2", "cond")

    ratio: float = 0.4
    """Of the sides, above 0: 0.4 for Wan, 0.625 for HunyuanVideo in the source; 1 changes nothing."""
    powers: Mapping[str, float] = field(default_factory=dict, init=False)
    """None: it acts on the transformer's input; the block set is not used."""
    gamma: float = field(default=1.0, init=False)
    """No logits are multiplied."""

    def __post_init__(self) -> None:
        if not is_finite_number(self.ratio) or not 0 < self.ratio <= 1:
            raise ModulationError(f"ratio must be above 0 and at most 1, but {self.ratio!r} was given.")

    def __hash__(self) -> int:
        return hash((self.kind, self.ratio))

    def words(self, power: float) -> str:
        """Such as "reference scaled down to 0.4 and up"."""
        return f"reference scaled down to {self.ratio:.4g} and up"
