"""Conflict-aware attention scaling (CAS): each query is scaled by how much the image outweighs the text there.

Source: Attention Scaling Modulation of arXiv 2512.01334, conflict-aware. The settings; formulas in
`alignvid.attachment.effects.conflict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from alignvid.errors import ModulationError
from alignvid.modulation.base import DEFAULT_GAMMA, Modulation, Powers, check_gamma


@dataclass(frozen=True)
class ConflictAware(Modulation):
    """γ = 1 + C per query and head, with C clipped to 0 ≤ C ≤ gamma − 1; it multiplies that query's row of logits.

    Examples:
        >>> ConflictAware().words(1.0)
        'x1 to x1.35 by conflict'
        >>> ConflictAware().gain("cross.text")  # the largest
        1.35
    """

    acts_at_call: ClassVar[bool] = True
    looks_ahead: ClassVar[bool] = True
    kind: ClassVar[str] = "conflict-aware"
    effects: ClassVar[str] = "alignvid.attachment.effects.conflict:conflict_effects"
    requirement: ClassVar[str] = (
        "It compares text and image keys that one query meets, in cross-attention as in Wan 2.1 image-to-video, or in "
        "joint attention as in FramePack."
    )

    gamma: float = DEFAULT_GAMMA
    """The largest gain; the paper clips C at 0.35."""
    powers: Mapping[str, float] = field(default=Powers({"*.text": 1.0, "*.image": 1.0}), init=False)
    """Fixed: a row of logits holds the keys of both streams."""

    def __post_init__(self) -> None:
        check_gamma(self.gamma)
        if self.gamma < 1.0:
            raise ModulationError(f"gamma is the largest of gains that begin at 1, but {self.gamma:g} was given.")

    def gain(self, target: str) -> float:
        """The largest factor on a query's logits."""
        return float(self.gamma)

    def words(self, power: float) -> str:
        """Such as "x1 to x1.35 by conflict"."""
        return f"x1 to x{self.gamma:.4g} by conflict"
