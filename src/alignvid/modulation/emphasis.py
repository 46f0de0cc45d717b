"""Emphasis: a factor for each of some words of the prompt. One step beyond the paper."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from alignvid.errors import ModulationError
from alignvid.fields import is_finite_number
from alignvid.modulation.base import Modulation, Powers, factor

Way = Literal["gain", "odds"]
"""What a weight multiplies: the logits of the word's keys, or the odds of attending to them."""


@dataclass(frozen=True)
class Emphasis(Modulation):
    """The keys of chosen words, each by a weight of its own; all other words are left alone.

    Examples:
        >>> Emphasis({"sunglasses": 1.6, "red": 1.3}).words(1.0)
        'sunglasses x1.6, red x1.3'
        >>> Emphasis({"red": 4.0}, by="odds").number(4.0, 0.5)  # added to the logits: half of ln 4
        0.6931471805599453
    """

    kind: ClassVar[str] = "emphasis"
    effects: ClassVar[str] = "alignvid.attachment.effects.emphasis:emphasis_effects"
    takes_inner_streams: ClassVar[bool] = True
    is_uniform: ClassVar[bool] = True

    weights: Mapping[str, float] = field(default_factory=dict)
    """Factor by word or phrase; above 1 emphasises, below 1 holds back, 1 changes nothing."""
    by: Way = "gain"
    """"gain" multiplies the logits of a word's keys; "odds" adds ln(weight) to them, through the attention mask."""
    powers: Mapping[str, float] = field(default_factory=lambda: {"*.words": 1.0})
    """Power of each weight by target, `site.words`."""
    gamma: float = field(default=1.0, init=False)
    """None: each word has its own weight."""

    def __post_init__(self) -> None:
        check_weights(self.weights)
        if self.by not in get_args(Way):
            raise ModulationError(f"by={self.by!r} is unknown; choose one of {', '.join(get_args(Way))}.")
        object.__setattr__(self, "weights", dict(self.weights))
        object.__setattr__(self, "powers", Powers(self.powers))
        if wrong := [target for target in self.powers if not target.endswith(".words")]:
            raise ModulationError(
                f"An emphasis acts on words, but {wrong[0]!r} was given; write 'cross.words' or '*.words'."
            )

    def __hash__(self) -> int:
        return hash((self.kind, tuple(self.weights.items()), self.by, self.powers))

    def gain(self, target: str) -> float:
        """The factor furthest from 1 on the logits of a word; 1 where it is the odds that are multiplied."""
        if self.by == "odds":
            return 1.0
        largest = max(self.weights.values(), key=lambda weight: abs(math.log(weight)))
        return factor(largest, self.powers[target], target)

    def number(self, weight: float, power: float) -> float:
        """What multiplies, or is added to, the logits of a word of that weight."""
        return weight**power if self.by == "gain" else power * math.log(weight)

    def words(self, power: float) -> str:
        """Such as "sunglasses x1.6, red x1.3"."""
        what = "x" if self.by == "gain" else "odds x"
        return ", ".join(f"{word} {what}{weight**power:.4g}" for word, weight in self.weights.items())


def check_weights(weights: object) -> None:
    """Raises: ModulationError if a word is empty, or a weight is not a finite positive number; or there is none."""
    if not isinstance(weights, Mapping) or not weights:
        raise ModulationError(f'Words have a weight each, such as {{"sunglasses": 1.6}}, but {weights!r} was given.')
    for word, weight in weights.items():
        if not isinstance(word, str) or not word.strip():
            raise ModulationError(f"{word!r} is not a word of a prompt.")
        if not is_finite_number(weight) or weight <= 0:
            raise ModulationError(
                f"The weight {weight!r} of {word!r} is not a finite positive number; 1 changes nothing, 1.6 is strong."
            )
