"""The words of a running forward: which prompt's tokens the stream `text` is made of, and whether a word is there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from torch import nn

from alignvid.errors import WordError
from alignvid.models.family import Arguments, Family
from alignvid.models.reading.prompts import Prompt, encoders_of, placed_tokens
from alignvid.models.reading.words import nearest_words, occurrences

_CONDITIONED = ("AnimaModularPipeline",)
_CONDITIONED_REASON = "a conditioner makes other tokens of the text encoder's before the transformer is given them."


class Sample(NamedTuple):
    """The text of one sample of a batch."""

    prompts: tuple[Prompt, ...]
    """What the text encoders read; none if that is not known."""
    tokens: tuple[tuple[int, int] | None, ...]
    """By row of the stream `text`: which prompt, and which of its tokens; None for what no encoder has made."""

    def places(self, word: str) -> dict[str, list[int]]:
        """Positions of a word's tokens among those of each text encoder, if they reach the transformer."""
        given, found = set(self.tokens), {}
        for index, prompt in enumerate(self.prompts):
            tokens = [token for each in occurrences(prompt.runs, word) for token in each if (index, token) in given]
            if tokens:
                found[prompt.reading.encoder] = sorted({*found.get(prompt.reading.encoder, ()), *tokens})
        return found


def samples_of(family: Family, transformer: nn.Module, arguments: Arguments) -> list[Sample]:
    """The text of each sample of a forward, its tokens as they lie in the stream `text`."""
    pieces = family.prompts(transformer, arguments)
    placed = [None if isinstance(piece, int) else placed_tokens(piece.states) for piece in pieces]
    count = max(len(samples) for samples in placed if samples is not None)
    joined = []
    for index in range(count):
        prompts: list[Prompt] = []
        tokens: list[tuple[int, int] | None] = []
        for piece, samples in zip(pieces, placed, strict=True):
            if isinstance(piece, int) or samples is None:
                tokens += [None] * piece  # type: ignore[operator]  # tokens of the model's own
                continue
            sample = samples[index % len(samples)]
            rows = sample.tokens[piece.start : piece.stop]
            tokens += [None if place is None else (place[0] + len(prompts), place[1]) for place in rows]
            prompts += sample.prompts
        joined.append(Sample(tuple(prompts), tuple(tokens)))
    return joined


def check_family(family: Family) -> None:
    """Raises: WordError if words cannot be found among the tokens that a family is given, with the reason."""
    if family.reads.words_refusal:
        raise WordError(f"Words cannot be found in prompts of the family {family.name}: {family.reads.words_refusal}")


def check_prompts(pipeline: Any) -> None:
    """Raises: WordError if words cannot be found in the prompts of this pipeline, with the reason."""
    if type(pipeline).__name__ in _CONDITIONED:
        raise WordError(f"Words cannot be found in prompts of {type(pipeline).__name__}: {_CONDITIONED_REASON}")
    if not encoders_of(pipeline):
        what = "A transformer alone" if pipeline is None else type(pipeline).__name__
        raise WordError(
            f"{what} has no text encoder with a tokenizer here, by which words are found among the prompt's tokens. "
            "Attach to a pipeline that has them and give it prompt=, or act on streams."
        )


def check_words(samples: Sequence[Sample], asked: Sequence[bool], words: Collection[str]) -> None:
    """Refuse a forward whose prompt lacks a word. Each must be in one prompt of the batch at least.

    Args:
        samples: the texts of the forward.
        asked: which of them are prompts, not negative ones; one value for all, or none, is fine.
        words: chosen words.

    Raises: WordError if a prompt is not known, or a word is in none.
    """
    prompted = prompts_among(samples, asked)
    if any(not sample.prompts for sample in prompted):
        raise WordError(
            "Words cannot be found in this text: it is not what a text encoder of this pipeline has made of a prompt "
            "since AlignVid was attached, or the pipeline changes that on the way. Give the pipeline prompt= in place "
            "of embeddings, or make the embeddings while it is attached."
        )
    for word in words if prompted else ():
        if not any(sample.places(word) for sample in prompted):
            raise WordError(_missing(word, [prompt for sample in prompted for prompt in sample.prompts]))


def prompts_among(samples: Sequence[Sample], asked: Sequence[bool]) -> list[Sample]:
    """Those samples that are prompts: `asked` has a value for each, or one for all, or none."""
    chosen = asked if len(asked) == len(samples) else [any(asked)] * len(samples)
    return [sample for sample, is_asked in zip(samples, chosen, strict=True) if is_asked]


def _missing(word: str, prompts: Sequence[Prompt]) -> str:
    read = [prompt for prompt in prompts if not prompt.reading.is_full(prompt.row)]
    if not read:
        count = max(len(prompt.reading.ids[prompt.row]) for prompt in prompts)
        return (
            f"{word!r} is not among the {count} tokens that the text encoder reads, and the prompt fills them all: the "
            "rest was cut off. Shorten the prompt, or put the word further to the front."
        )
    near = nearest_words(read[0].runs, word)
    nearest = f"; the nearest there: {', '.join(near)}" if near else ""
    return f"{word!r} is not in the prompt{nearest}. Choose a word or phrase as the prompt has it."
