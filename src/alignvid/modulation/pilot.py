"""The pilot study's alternatives to scaling attention, under the same schedule: blurred keys, low-passed conditioning.

Source: the pilot study of arXiv 2512.01334 (blur of the input raises adherence and ruins the image). They are here to
be compared with; formulas in `alignvid.attachment.effects.gaussian`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from alignvid.errors import ModulationError
from alignvid.fields import is_finite_number
from alignvid.modulation.base import OnTargets, WithoutGain


@dataclass(frozen=True)
class KeyBlur(OnTargets):
    """A Gaussian blur of a target's keys over their grid of tokens, before the rotary embedding.

    Examples:
        >>> KeyBlur(sigma=1.5, targets=["cross.image"]).words(1.0)
        'blurred, sigma 1.5 tokens'
        >>> KeyBlur(sigma=1.5).targets
        ('*.image',)
    """

    kind: ClassVar[str] = "key-blur"
    effects: ClassVar[str] = "alignvid.attachment.effects.pilot:key_blur_effects"

    sigma: float = 1.0
    """Standard deviation in tokens; 0 changes nothing."""
    targets: tuple[str, ...] | list[str] = ("*.image",)
    """Whose keys, as `site.stream`; only streams that lie on a grid."""
    powers: Mapping[str, float] = field(init=False)
    """1 for each target; a blur has no powers of its own."""
    gamma: float = field(default=1.0, init=False)
    """No logits are multiplied."""

    def __post_init__(self) -> None:
        check_sigma(self.sigma)
        self._keep_targets()

    def words(self, power: float) -> str:
        """Such as "blurred, sigma 1 tokens"."""
        return f"blurred, sigma {self.sigma:.4g} tokens"


@dataclass(frozen=True)
class LowPass(WithoutGain):
    """A Gaussian low-pass of the reference image's latents in the transformer's input, weaker as the noise goes.

    Examples:
        >>> LowPass(sigma=2.0).words(1.0)
        'reference low-passed, sigma 2 latent pixels at pure noise'
        >>> LowPass(sigma=-1.0).sigma
        Traceback (most recent call last):
        alignvid.errors.ModulationError: sigma must be a finite number of 0 or more, but -1.0 was given.
    """

    kind: ClassVar[str] = "low-pass"
    effects: ClassVar[str] = "alignvid.attachment.effects.pilot:low_pass_effects"

    sigma: float = 2.0
    """Standard deviation in latent pixels at pure noise; at noise level u it is u · sigma. 0 changes nothing."""
    powers: Mapping[str, float] = field(default_factory=dict, init=False)
    """None: it acts on the transformer's input, not on keys; the block set is not used."""
    gamma: float = field(default=1.0, init=False)
    """No logits are multiplied."""

    def __post_init__(self) -> None:
        check_sigma(self.sigma)

    def __hash__(self) -> int:
        return hash((self.kind, self.sigma))

    def words(self, power: float) -> str:
        """Such as "reference low-passed, sigma 2 latent pixels at pure noise"."""
        return f"reference low-passed, sigma {self.sigma:.4g} latent pixels at pure noise"


def check_sigma(sigma: object) -> None:
    """Raises: ModulationError if sigma is not a finite number of 0 or more."""
    if not is_finite_number(sigma) or sigma < 0:  # type: ignore[operator]  # a number by the first test
        raise ModulationError(f"sigma must be a finite number of 0 or more, but {sigma!r} was given.")
