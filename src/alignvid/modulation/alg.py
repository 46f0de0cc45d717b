"""ALG: adaptive low-pass guidance, a reference that is low-passed in the early steps, with three passes a step.

Source: arXiv 2506.08456. In the window (all blocks, the first fifth for Wan):

    v = v(negative, c) + s · [v(text, c_lp) − v(negative, c_lp)]        c_lp = up(down(c, ratio))

so that guidance is taken between two passes of the low-passed reference, and its origin is a pass of the whole one.
After it: plain classifier-free guidance. At guidance 1 there is one pass, v(text, c_lp): that is `down-up`, and not the
source's method. The settings; the formula is `alignvid.attachment.effects.alg.negative_of_three`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from alignvid.errors import ModulationError
from alignvid.fields import is_finite_number
from alignvid.modulation.down_up import DownUp


@dataclass(frozen=True)
class Alg(DownUp):
    """Down-up in both passes, and a third pass of the negative prompt with the reference as it is."""

    kind: ClassVar[str] = "alg"
    effects: ClassVar[str] = "alignvid.attachment.effects.alg:alg_effects"
    schedule: ClassVar[tuple[str, str, str]] = ("all", "0.0-0.2", "both")

    scale: float = 0.0
    """Of classifier-free guidance, where the pipeline does not say its own: HunyuanVideo's `true_cfg_scale`. 0: it
    says."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_finite_number(self.scale) or (self.scale != 0.0 and self.scale <= 1.0):
            raise ModulationError(
                f"scale must be above 1, or 0 where the pipeline says its own, but {self.scale!r} was given."
            )

    def __hash__(self) -> int:
        return hash((self.kind, self.ratio, self.scale))

    def words(self, power: float) -> str:
        """Such as "reference scaled down to 0.4 and up, in three passes"."""
        return f"{super().words(power)}, in three passes (at guidance 1 in one: down-up)"
