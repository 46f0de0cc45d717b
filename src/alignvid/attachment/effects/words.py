"""Numbers for single tokens of the text: a gain on the keys of words, of padding, of the rest.

Which token is what comes from the prompt as its encoder read it (`alignvid.models.reading.prompts`), for the text that
the running forward is given: so a batch of two prompts, or two threads with a prompt each, have each their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from alignvid.attachment.effect import Effect, Installed, State
from alignvid.attachment.effects.scalar import scalar_effects
from alignvid.attachment.placement import Placement, with_firsts
from alignvid.attachment.refusals import refuse_reached
from alignvid.attachment.streams import split_by_stream
from alignvid.errors import ModulationError, WordError
from alignvid.host.transformers import Host
from alignvid.host.words import Sample, check_words, prompts_among, samples_of
from alignvid.models.family import Family, KeyNorm, TextRows
from alignvid.models.reading.words import occurrences, own_tokens
from alignvid.modulation import INNER_STREAMS, Emphasis, Scalar

TEXT = "text"
IN_TEXT = (TEXT, *INNER_STREAMS)


@dataclass(frozen=True)
class TokenRule:
    """A number for each token of the text: what multiplies its key, or is added to its logits."""

    neutral: float
    """Of a token that nothing is said of: 1 or 0."""
    streams: Mapping[str, float]
    """By stream, `words` and `padding` before `text`."""
    weights: Mapping[str, float]
    """By chosen word; a longer one before a shorter one that lies in it."""

    @property
    def beyond(self) -> float:
        """The number of padding that the model puts behind the text."""
        return self.streams.get("padding", self.streams.get(TEXT, self.neutral))

    def numbers(self, sample: Sample) -> list[float]:
        """By row of the embedding of one sample."""
        rest = self.streams.get(TEXT, self.neutral)
        rows = {place: row for row, place in enumerate(sample.tokens) if place is not None}
        numbers = [rest if place is not None else self.streams.get("padding", rest) for place in sample.tokens]
        for index, prompt in enumerate(sample.prompts):
            by_token: dict[int, float] = {}
            if "padding" in self.streams:
                by_token |= dict.fromkeys(prompt.padding(), self.streams["padding"])
            if "words" in self.streams:
                by_token |= dict.fromkeys(own_tokens(prompt.runs), self.streams["words"])
            for word in sorted(self.weights, key=len):
                for tokens in occurrences(prompt.runs, word):
                    by_token |= dict.fromkeys(tokens, self.weights[word])
            for token, number in by_token.items():
                if (row := rows.get((index, token))) is not None:
                    numbers[row] = number
        return numbers


class TokenState(State):
    """The numbers of the running forward's text."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: Tensor | None = None
        """(batch, tokens), on the device of the text; None while the effect is off."""
        self.rows: list[list[float]] = []
        """The same, by sample."""
        self.asked: Sequence[bool] = ()
        """Which samples must hold the chosen words."""
        self.found: dict[str, dict[str, list[int]]] = {}
        """Positions of chosen words by text encoder."""
        self.missing = ""
        """What is to be said of prompts of a batch that have none of them."""


class TokenEffect(Effect):
    """Knows a number for each token of the running forward's text."""

    state_type = TokenState
    reads_prompts = True
    is_neutral_in_graph = False

    def __init__(self, rule: TokenRule, family: Family) -> None:
        super().__init__()
        self.rule = rule
        self.family = family

    def prepare(self, transformer: nn.Module, arguments: Mapping[str, Any], noise_level: float) -> None:
        """Find the words in the text of this forward.

        Raises: WordError where a prompt lacks them, or is not known.
        """
        now, words = self.now, self.rule.weights
        samples = samples_of(self.family, transformer, arguments)
        check_words(samples, now.asked, words)
        now.found = {word: places for word in words for sample in samples if (places := sample.places(word))}
        now.missing = self._missing_in(prompts_among(samples, now.asked))
        now.rows = [self.rule.numbers(sample) for sample in samples]
        now.numbers = self._tensor(now.rows, device_of(self.family.prompts(transformer, arguments)))

    def set_active(self, is_active: bool) -> None:
        """Switch on, if any token of this forward's text has a number of its own, or off."""
        now = self.now
        now.is_active = is_active and any(number != self.rule.neutral for row in now.rows for number in row)

    def set_active_samples(self, is_active: Sequence[bool]) -> None:
        """Switch on for some samples of a batch only."""
        now = self.now
        if now.numbers is not None and len(is_active) == len(now.rows):
            neutral = self.rule.neutral
            pairs = zip(now.rows, is_active, strict=True)
            now.rows = [row if is_on else [neutral] * len(row) for row, is_on in pairs]
            now.numbers = self._tensor(now.rows, now.numbers.device)
        self.set_active(any(is_active))

    def _tensor(self, rows: Sequence[Sequence[float]], device: torch.device) -> Tensor:
        longest = max(len(row) for row in rows)
        padded = [[*row, *[self.rule.beyond] * (longest - len(row))] for row in rows]
        return torch.tensor(padded, dtype=torch.float32).to(device, non_blocking=True)

    def _missing_in(self, prompted: Sequence[Sample]) -> str:
        """What is said where prompts of a batch have none of the words, which others have."""
        without = sum(not any(sample.places(word) for word in self.rule.weights) for sample in prompted)
        if not without or not self.rule.weights:
            return ""
        return (
            f"Of the {len(prompted)} prompts in this batch, {without} have none of the words "
            f"{', '.join(self.rule.weights)}: they are left as they are."
        )


class TokenGain(TokenEffect):
    """A factor for each key of the text."""

    def __init__(self, rule: TokenRule, family: Family, keys: KeyNorm) -> None:
        """`keys`: streams and sequence axis of the norm."""
        super().__init__(rule, family)
        self.keys = keys
        self.reads_token_counts = len(keys.streams) > 1

    def on_output(self, output: Tensor) -> Tensor:
        """The keys, scaled."""
        now, dim = self.now, self.keys.sequence_dim
        if not self.reads_token_counts:
            return self._scaled(output, now.numbers)
        parts = split_by_stream(output, self.keys.streams, dim, now)
        named = zip(self.keys.streams, parts, strict=True)
        return torch.cat([self._scaled(part, now.numbers) if name == TEXT else part for name, part in named], dim)

    def _scaled(self, keys: Tensor, numbers: Tensor) -> Tensor:
        dim = self.keys.sequence_dim
        factors = fitted(numbers, keys.shape[0] if dim else 1, keys.shape[dim], self.rule.beyond)
        shape = [1] * keys.ndim
        shape[0], shape[dim] = (len(factors) if dim else 1), keys.shape[dim]
        return (keys * factors.reshape(shape)).to(keys.dtype)


def token_gain_effects(
    placements: Sequence[tuple[Placement, bool]], rule_of: Callable[[Placement], TokenRule], family: Family
) -> list[Installed]:
    """A rule's gain on each norm; one for each kind of norm, shared by all blocks.

    Args:
        placements: with whether each stands for its attention in counts.
        rule_of: gives the numbers at a placement.
        family: says where the text lies in a forward.
    """
    shared: dict[tuple[object, ...], TokenGain] = {}
    installed = []
    for placement, is_first in placements:
        keys = placement.location.keys
        kind = (placement.location.site, keys, placement.powers)
        effect = shared.setdefault(kind, TokenGain(rule_of(placement), family, keys))
        installed.append(Installed(placement.location.norm, effect, is_first))
    return installed


def gain_effects(modulation: Scalar, host: Host, placements: Sequence[Placement]) -> list[Installed]:
    """Those of a scalar: one gain for each kind of norm; for each token where a part of the text has its own."""
    apart = [(*text_apart(placement), is_first) for placement, is_first in with_firsts(placements)]
    whole = [(placement, is_first) for placement, _, is_first in apart if placement is not None]
    tokens = [(placement, is_first) for _, placement, is_first in apart if placement is not None]
    refuse_reached("scalar, by token,", [placement for placement, _ in tokens])
    if tokens and modulation.shares_with_guidance:
        raise ModulationError(
            "shares_with_guidance is for gains on whole streams, and words and padding are parts of the text: name the "
            "text in their place, or leave it out."
        )
    by_token = token_gain_effects(tokens, lambda placement: stream_rule(dict(placement.gains), 1.0), host.family)
    return [*scalar_effects(whole, host.name if modulation.shares_with_guidance else ""), *by_token]


def emphasis_rule(modulation: Emphasis, placement: Placement) -> TokenRule:
    """The numbers of chosen words at one site."""
    power = dict(placement.powers)["words"]
    numbers = {word: modulation.number(weight, power) for word, weight in modulation.weights.items()}
    return TokenRule(1.0 if modulation.by == "gain" else 0.0, {}, numbers)


def stream_rule(numbers: Mapping[str, float], neutral: float) -> TokenRule:
    """The numbers of the streams in the text."""
    return TokenRule(neutral, {name: numbers[name] for name in IN_TEXT if name in numbers}, {})


def text_apart(placement: Placement) -> tuple[Placement | None, Placement | None]:
    """What a placement does to whole streams, and what to tokens of the text; either may be None."""
    if not set(INNER_STREAMS) & {stream for stream, _ in placement.powers}:
        return placement, None
    return _only(placement, lambda stream: stream not in IN_TEXT), _only(placement, lambda stream: stream in IN_TEXT)


def _only(placement: Placement, is_chosen: Callable[[str], bool]) -> Placement | None:
    gains, powers = (
        tuple(pair for pair in pairs if is_chosen(pair[0])) for pairs in (placement.gains, placement.powers)
    )
    return replace(placement, gains=gains, powers=powers) if powers else None


def device_of(pieces: Sequence[TextRows | int]) -> torch.device:
    """Where the text lies."""
    states = next(piece.states for piece in pieces if isinstance(piece, TextRows))
    return states.device if isinstance(states, Tensor) else states[0].device


def fitted(numbers: Float[Tensor, "batch token"], samples: int, tokens: int, beyond: float) -> Float[Tensor, "b t"]:
    """Numbers for as many samples and tokens as an attention has: a model may make samples of frames, crop text to
    what is no padding, or put padding of its own behind it.
    """
    if samples == 1 and len(numbers) > 1:
        raise WordError(
            "This attention has one text for all samples of a batch, so that words of each cannot be acted on: run the "
            "prompts one by one."
        )
    numbers = numbers.repeat_interleave(max(1, samples // len(numbers)), 0)[:, :tokens]
    missing = tokens - numbers.shape[1]
    return torch.nn.functional.pad(numbers, (0, missing), value=beyond) if missing else numbers
