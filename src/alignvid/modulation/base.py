"""What every kind of modulation has: powers by target, a knob, and a form as plain data.

A target names keys as `site.stream`: `cross.text` are the text keys of cross-attention. A star stands for any site or
any stream. How strongly a kind acts on a target is a power of gamma, so that one knob drives every preset: released Wan
is {cross.text: 2, cross.image: 1}, because its scaled query meets the text keys a second time.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, ClassVar

from alignvid.errors import ModulationError
from alignvid.fields import is_finite_number, read

DEFAULT_GAMMA = 1.35  # the paper's value for every model
DEFAULT_POWERS: Mapping[str, float] = {"*.text": 1.0, "*.vision": 1.0, "*.image": 1.0}

INNER_STREAMS = ("words", "padding")
"""Parts of the stream `text`, which a target may name: the prompt's own tokens, and padding. No star stands for them.
"""

_TARGET = re.compile(r"([a-z_0-9]+|\*)\.([a-z_0-9]+|\*)")


class Powers(Mapping[str, float]):
    """Power of gamma by target; immutable and hashable."""

    def __init__(self, powers: Mapping[str, float]) -> None:
        """Raises: ModulationError if it is empty, a target is not of the form site.stream or a power is not finite."""
        if not powers:
            raise ModulationError("A modulation without a target acts on nothing; name one, such as 'cross.text'.")
        for target, power in powers.items():
            _check_target(target)
            if not is_finite_number(power):
                raise ModulationError(f"The power {power!r} of {target!r} is not a finite number.")
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


class Modulation(ABC):
    """How a recipe acts on attention. The kinds are its subclasses: frozen dataclasses whose fields are settings."""

    kind: ClassVar[str]
    """Name in files."""
    effects: ClassVar[str]
    """What puts it on a transformer, as "module:function": a function of a modulation, a `Host` and its placements that
    gives a list of `Installed`. A name, because a modulation is plain data that is read without torch."""
    requirement: ClassVar[str] = ""
    """What a model must have, as a sentence for those whose model does not."""
    is_uniform: ClassVar[bool] = False
    """Whether keys of one target get one factor each, whatever they and the other keys are."""
    takes_inner_streams: ClassVar[bool] = False
    """Whether `words` and `padding`, parts of the text, may be targets."""
    acts_at_call: ClassVar[bool] = False
    """Whether it can act at the attention call, so that keys need pass no norm that can be looked at; its effects
    refuse by themselves where they need one."""
    looks_ahead: ClassVar[bool] = False
    """Whether it computes the keys of an attention before they pass their norm."""
    repeats_norm: ClassVar[bool] = False
    """Whether it runs the key norm of an attention on other keys, too, so that a gain there must be one for all."""
    schedule: ClassVar[tuple[str, str, str]] = ("first-half", "0.0-0.3", "both")
    """Blocks, steps and CFG branch of a recipe that names no others: the paper's, unless its source says otherwise."""
    gamma: float
    """The knob: the factor on attention logits, or the largest that this kind gives; docs/modulations.md has each."""
    powers: Mapping[str, float]
    """Power of gamma by target, `site.stream`."""

    @abstractmethod
    def gain(self, target: str) -> float:
        """The factor on the logits of a target of `powers`, or the largest that this kind gives; 1 if it gives none.

        Raises: ModulationError if it is too large for a float.
        """

    @abstractmethod
    def words(self, power: float) -> str:
        """What happens to a target of that power, for people: "x1.35"."""

    def override(self, *, gamma: float | None, powers: Mapping[str, float] | None) -> Modulation:
        """A copy with the knob or the powers replaced; None leaves one as it is.

        Raises: ModulationError if this kind does not have what is replaced.
        """
        changes = {name: value for name, value in (("gamma", gamma), ("powers", powers)) if value is not None}
        if absent := sorted(set(changes) - set(self.settings())):
            raise ModulationError(
                f"A modulation of kind {self.kind!r} has no {absent[0]} to override"
                f"{' (what streams= sets)' if absent[0] == 'powers' else ''}; it has {self._setting_names()}."
            )
        return replace(self, **changes)  # type: ignore[type-var]  # every kind is a dataclass

    @classmethod
    def settings(cls) -> tuple[str, ...]:
        """Names of what a user can set."""
        return tuple(field.name for field in fields(cls) if field.init)  # type: ignore[arg-type]  # as above

    @classmethod
    def number_names(cls) -> tuple[str, ...]:
        """Names of those settings that are one number."""
        return tuple(field.name for field in fields(cls) if field.init and field.type in ("float", float))  # type: ignore[arg-type]  # as above

    def to_dict(self) -> dict[str, Any]:
        """A dict that `from_dict` reads back."""
        values = {name: getattr(self, name) for name in self.settings()}
        return {"kind": self.kind, **{name: _plain(value) for name, value in values.items()}}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Modulation:
        """Read a dict written by `to_dict`. Raises: ModulationError for another kind or a wrong field."""
        if settings.get("kind", cls.kind) != cls.kind:
            raise ModulationError(
                f"{settings['kind']!r} is not the kind {cls.kind!r}; use alignvid.modulation.from_dict."
            )
        values = {name: value for name, value in settings.items() if name != "kind"}
        return read(cls, values, what=f"A modulation of kind {cls.kind!r}", error=ModulationError)

    @classmethod
    def _setting_names(cls) -> str:
        return ", ".join(cls.settings())


class WithoutGain(Modulation):
    """A kind that multiplies no logits as a whole, whatever it does to its targets."""

    def gain(self, target: str) -> float:
        """1: no logits are multiplied."""
        return 1.0


class OnTargets(WithoutGain):
    """One with targets in place of powers: `targets` is a setting, and `powers` has 1 for each."""

    targets: tuple[str, ...] | list[str]

    def override(self, *, gamma: float | None, powers: Mapping[str, float] | None) -> Modulation:
        """A copy with the targets of `powers`. Raises: ModulationError if a gamma is given."""
        changed = self if powers is None else replace(self, targets=tuple(powers))  # type: ignore[type-var]  # as above
        return Modulation.override(changed, gamma=gamma, powers=None)

    def _keep_targets(self) -> None:
        object.__setattr__(self, "targets", tuple(self.targets))
        object.__setattr__(self, "powers", Powers(dict.fromkeys(self.targets, 1.0)))


def factor(gamma: float, power: float, target: str) -> float:
    """`gamma ** power`. Raises: ModulationError, naming the target, if it is too large for a float."""
    try:
        return float(gamma) ** power
    except OverflowError:
        raise ModulationError(f"{gamma:g} to the power {power:g} for {target!r} is not finite.") from None


def check_gamma(gamma: object) -> None:
    """Raises: ModulationError if gamma is not a finite positive number."""
    if not is_finite_number(gamma) or gamma <= 0:  # type: ignore[operator]  # a number by the first test
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


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value
