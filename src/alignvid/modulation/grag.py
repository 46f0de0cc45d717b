"""GRAG and DCAG: the keys, and the values, of the source image drawn to their mean or spread from it. The settings.

Sources: GRAG, arXiv 2510.24657 (keys); DCAG, arXiv 2602.18022 (keys and values). The formula is
`alignvid.attachment.effects.grag.spread`. Rivals of a gain, to be compared with: both act on editing models to keep the
source (a spread above 1) or to let go of it (below 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from alignvid.errors import ModulationError
from alignvid.fields import is_finite_number
from alignvid.modulation.base import OnTargets


@dataclass(frozen=True)
class Dcag(OnTargets):
    """K' = mean · k̄ + key_spread · (K − k̄) over the tokens of a target, per head, after rotation; values alike."""

    kind: ClassVar[str] = "dcag"
    acts_at_call: ClassVar[bool] = True
    effects: ClassVar[str] = "alignvid.attachment.effects.grag:spread_effects"
    schedule: ClassVar[tuple[str, str, str]] = ("all", "all", "both")

    key_spread: float = 1.10
    """Factor on what each key differs by from their mean; above 1 keeps the source image, below 1 lets go of it."""
    value_spread: float = 1.15
    """The same of the values."""
    mean: float = 1.0
    """Factor on the mean key. The mean value stays as it is."""
    targets: tuple[str, ...] | list[str] = ("*.image",)
    """Whose keys and values, as `site.stream`."""
    powers: Mapping[str, float] = field(init=False)
    """1 for each target; there are no powers."""
    gamma: float = field(default=1.0, init=False)
    """No logits are multiplied as a whole."""

    def __post_init__(self) -> None:
        for name in ("key_spread", "value_spread", "mean"):
            if not is_finite_number(value := getattr(self, name)) or value < 0:
                raise ModulationError(f"{name} must be a finite number of 0 or more, but {value!r} was given.")
        self._keep_targets()

    def words(self, power: float) -> str:
        """Such as "keys spread x1.1, values x1.15"."""
        return f"keys spread x{self.key_spread:.4g}, values x{self.value_spread:.4g}, mean x{self.mean:.4g}"


@dataclass(frozen=True)
class Grag(Dcag):
    """DCAG without the values: the earlier method."""

    kind: ClassVar[str] = "grag"

    value_spread: float = field(default=1.0, init=False)
    """Values stay as they are."""

    def words(self, power: float) -> str:
        """Such as "keys spread x1.1"."""
        return f"keys spread x{self.key_spread:.4g}, mean x{self.mean:.4g}"
