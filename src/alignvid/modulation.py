"""What the gain is: how strongly the logits of a stream's keys are multiplied.

A target names keys as `site.stream`: `cross.text` are the text keys of cross-attention. A star stands for any site or
any stream. A gain is a power of gamma per target, so that one knob drives every preset: released Wan is {cross.text: 2,
cross.image: 1}, because its scaled query meets the text keys a second time.

Source: Attention Scaling Modulation of arXiv 2512.01334.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from alignvid.errors import ModulationError

DEFAULT_GAMMA = 1.35  # the paper's value for every model

_TARGET = re.compile(r"([a-z_0-9]+|\*)\.([a-z_0-9]+|\*)")


class Powers(Mapping[str, float]):
    """Power of gamma by target; immutable and hashable."""

    def __init__(self, powers: Mapping[str, float]) -> None:
        self._powers = dict(sorted(powers.items()))

    def __getitem__(self, target: str) -> float:
        return self._powers[target]

    def __iter__(self) -> Iterator[str]:
        return iter(self._powers)

    def __len__(self) -> int:
        return len(self._powers)

    def __hash__(self) -> int:
        return hash(tuple(self._powers.items()))

    def __repr__(self) -> str:
        return repr(self._powers)


@dataclass(frozen=True)
class Scalar:
    """The paper's main setting: one constant gain per target, `gamma ** power`."""

    gamma: float = DEFAULT_GAMMA
    """Factor on attention logits; above 1 sharpens, 1 changes nothing."""
    powers: Mapping[str, float] = field(default_factory=lambda: {"*.text": 1.0, "*.image": 1.0})
    """Power of gamma by target, `site.stream`."""

    def __post_init__(self) -> None:
        check_gamma(self.gamma)
        if not self.powers:
            raise ModulationError("A modulation without a target acts on nothing; name one, such as 'cross.text'.")
        for target, power in self.powers.items():
            _check_target(target)
            if not _is_finite_number(power):
                raise ModulationError(f"The power {power!r} of {target!r} is not a finite number.")
        object.__setattr__(self, "powers", Powers(self.powers))

    def gain(self, target: str) -> float:
        """Factor on the logits of a target's keys. Raises: ModulationError if it is too large for a float."""
        try:
            return float(self.gamma) ** self.powers[target]
        except OverflowError:
            raise ModulationError(
                f"{self.gamma:g} to the power {self.powers[target]:g} for {target!r} is not finite."
            ) from None

    def to_dict(self) -> dict[str, Any]:
        """A dict that `from_dict` reads back."""
        return {"kind": "scalar", "gamma": self.gamma, "powers": dict(self.powers)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Scalar:
        """Read a dict written by `to_dict`. Raises: ModulationError for an unknown kind or field."""
        unknown = set(fields) - {"kind", "gamma", "powers"}
        if unknown:
            raise ModulationError(f"A modulation has no field {sorted(unknown)[0]!r}; it has kind, gamma and powers.")
        if fields.get("kind", "scalar") != "scalar":
            raise ModulationError(f"The modulation kind {fields['kind']!r} is unknown; choose 'scalar'.")
        return cls(**{name: value for name, value in fields.items() if name != "kind"})


def check_gamma(gamma: object) -> None:
    """Raises: ModulationError if gamma is not a finite positive number."""
    if not _is_finite_number(gamma) or gamma <= 0:  # type: ignore[operator]  # a number by the first test
        raise ModulationError(f"gamma must be a finite positive number, but {gamma!r} was given; the paper uses 1.35.")


def split_target(target: str) -> tuple[str, str]:
    """Site and stream of a target: "cross.text" -> ("cross", "text").

    Raises: ModulationError if it is not of that form.
    """
    _check_target(target)
    site, _, stream = target.partition(".")
    return site, stream


def _check_target(target: object) -> None:
    if not isinstance(target, str) or not _TARGET.fullmatch(target):
        raise ModulationError(
            f"{target!r} is not a target; write site.stream, such as 'cross.text', 'single.*' or '*.image'."
        )


def _is_finite_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
