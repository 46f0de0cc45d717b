"""Which token of a prompt each row of an embedding is, found by its values.

The transformer is given embeddings; which of their rows are which words it is not given. So a pipeline's text encoders
are watched while something must know: of what an encoder makes of a prompt, eight numbers of each token are noted, of
each layer that it gives, and an embedding that reaches the transformer is searched for them. Whatever a pipeline does
in between (drop its template, crop, pad, repeat, cast, join two encoders), the rows found are those tokens. Of an
embedding that was made before the watch, or by hand, nothing is known.

Values belong to a prompt, not to a thread or a pipeline: two threads with two prompts find each its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple
from weakref import ref

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from alignvid.models.reading.per_tensor import PerTensor
from alignvid.models.reading.words import Run, prompt_runs

_NOTED = 8  # numbers of a token: two tokens that agree in all of them are one
_READINGS = 32  # that are remembered, of all pipelines; a run needs one for each encoder, or two with guidance
_ENCODERS = ("", "_2", "_3", "_4")


@dataclass
class Reading:
    """Prompts as one text encoder read them."""

    encoder: str
    """Attribute of the pipeline: "text_encoder_2"."""
    tokenizer: Callable[[], Any]
    """Gives the tokenizer of these ids; None once it is gone."""
    ids: list[list[int]]
    is_padding: list[list[bool]]
    layers: list[Tensor]
    """The first numbers of each token, in what each layer gives: (batch, tokens, numbers)."""
    _runs: dict[int, list[Run]] = field(default_factory=dict)

    def runs(self, row: int) -> list[Run]:
        """The prompt's own tokens in a row of the batch."""
        if row not in self._runs:
            tokenizer = self.tokenizer()
            known = tokenizer is not None
            self._runs[row] = prompt_runs(tokenizer, self.ids[row], self.is_padding[row]) if known else []
        return self._runs[row]

    def is_full(self, row: int) -> bool:
        """Whether a prompt fills all that the encoder is given, so that more of it may have been cut off."""
        return not any(self.is_padding[row])


class Prompt(NamedTuple):
    """One row of the batch that an encoder has read."""

    reading: Reading
    row: int

    @property
    def runs(self) -> list[Run]:
        """The prompt's own tokens."""
        return self.reading.runs(self.row)

    def padding(self) -> list[int]:
        """Positions of padding."""
        return [index for index, padded in enumerate(self.reading.is_padding[self.row]) if padded]


class Placed(NamedTuple):
    """Where one sample's tokens come from."""

    prompts: tuple[Prompt, ...]
    """Those that were found in it; none if it was made before the watch, or by hand."""
    tokens: tuple[tuple[int, int] | None, ...]
    """By row of the embedding: which of the prompts, and which of its tokens; None for what no encoder has made."""


_readings: deque[Reading] = deque(maxlen=_READINGS)
_placed = PerTensor[list[Placed]]()


def encoders_of(pipeline: Any) -> dict[str, tuple[nn.Module, Any]]:
    """A pipeline's text encoders and their tokenizers, by the encoder's attribute."""
    found = {}
    for suffix in _ENCODERS:
        encoder = getattr(pipeline, f"text_encoder{suffix}", None)
        tokenizer = getattr(pipeline, f"tokenizer{suffix}", None) or getattr(pipeline, "processor", None)
        tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # of a processor
        if isinstance(encoder, nn.Module) and hasattr(tokenizer, "all_special_ids"):
            found[f"text_encoder{suffix}"] = (encoder, tokenizer)
    return found


def watch_prompts(pipeline: Any) -> list[RemovableHandle]:
    """Note what the pipeline's text encoders make of prompts, until the handles are removed."""
    return [
        encoder.register_forward_hook(partial(_note, name, ref(tokenizer)), with_kwargs=True)
        for name, (encoder, tokenizer) in encoders_of(pipeline).items()
    ]


def placed_tokens(text: Any) -> list[Placed]:
    """Which tokens of which prompts the rows of each sample are.

    Args:
        text: (batch, tokens, features), or a list of (tokens, features); or (layers, batch, tokens, features), of which
            the last counts. Searched once for each tensor, which a pipeline passes at every step.
    """
    if isinstance(text, Tensor) and text.ndim == 4:
        return _placed.of(text, lambda: [_place(sample) for sample in _first_numbers(text[-1])])
    if isinstance(text, Tensor):
        return _placed.of(text, lambda: [_place(sample) for sample in _first_numbers(text)])
    return [_placed.of(sample, lambda sample=sample: [_place(_first_numbers(sample))])[0] for sample in text]


def latest_prompts() -> list[Prompt]:
    """What was read last, the latest first."""
    return [Prompt(reading, row) for reading in tuple(_readings)[::-1] for row in range(len(reading.ids))]


def _note(
    name: str, tokenizer: Callable[[], Any], module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
) -> None:
    ids = kwargs.get("input_ids", args[0] if args else None)
    if not isinstance(ids, Tensor) or ids.ndim != 2 or tokenizer() is None:
        return
    mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
    layers = [_first_numbers(layer) for layer in _layers(out, ids.shape)]
    if layers:
        _readings.append(Reading(name, tokenizer, ids.tolist(), _padding(ids, mask, tokenizer()), layers))


def _layers(output: Any, shape: torch.Size) -> Iterator[Tensor]:
    """Every tensor of an output that has a row of features for each token."""
    if isinstance(output, Tensor):
        if output.ndim == 3 and output.shape[:2] == shape:
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _layers(value, shape)
    elif isinstance(output, tuple | list):
        for value in output:
            yield from _layers(value, shape)


def _padding(ids: Tensor, mask: Any, tokenizer: Any) -> list[list[bool]]:
    """As the mask says; else the padding token at the beginning and at the end, but for one that ends the prompt."""
    if isinstance(mask, Tensor) and mask.shape == ids.shape and not bool(mask.all()):
        return (mask == 0).tolist()
    padding, ends = tokenizer.pad_token_id, tokenizer.pad_token_id == tokenizer.eos_token_id
    rows = []
    for row in ids.tolist():
        count = len(row)
        before = next((index for index, token in enumerate(row) if token != padding), count)
        after = next((index for index, token in enumerate(reversed(row)) if token != padding), count)
        stop = min(count, count - after + (1 if ends and after else 0))
        rows.append([index < before or index >= stop for index in range(count)])
    return rows


def _first_numbers(values: Tensor) -> Tensor:
    return values.detach()[..., :_NOTED].to("cpu", copy=True)


def _rounded(values: Tensor, like: Tensor) -> Tensor:
    """As a pipeline has rounded them on the way, in a format that can be searched."""
    return values.to(like.dtype).float()


def _place(tokens: Tensor) -> Placed:
    """Which prompts' tokens one sample's are: the one that says most of them, then what says most of the others."""
    place: list[tuple[int, int] | None] = [None] * len(tokens)
    open_ = tokens.ne(0).any(-1)  # rows of zeros are padding that a pipeline has put there
    prompts: list[Prompt] = []
    while bool(open_.any()) and (best := _best_prompt(tokens, open_)) is not None:
        prompt, layer = best
        known: dict[tuple[float, ...], list[int]] = {}
        for index, row in enumerate(layer.tolist()):
            known.setdefault(tuple(row), []).append(index)
        last = -1
        for index, row in enumerate(tokens.float().tolist()):
            if open_[index] and (places := known.get(tuple(row))):
                last = next((found for found in places if found > last), places[-1])
                place[index] = (len(prompts), last)
                open_[index] = False
        prompts.append(prompt)
    return Placed(tuple(prompts), tuple(place))


def _best_prompt(tokens: Tensor, is_open: Tensor) -> tuple[Prompt, Tensor] | None:
    """The prompt and layer with most of the open tokens, the latest of those that have as many; None if none has any.

    A prefix is alike in all prompts that begin with it where an encoder looks back alone: so the most, not the first.
    """
    best, most = None, 0
    wanted = tokens[is_open].float()
    for prompt in latest_prompts():
        for layer in prompt.reading.layers:
            rows = _rounded(layer[prompt.row], tokens)
            if rows.shape[-1] != tokens.shape[-1]:
                continue
            candidates = wanted[torch.isin(wanted[:, 0], rows[:, 0])]
            if len(candidates) > most:
                count = int((candidates[:, None] == rows[None]).all(-1).any(-1).sum())
                if count > most:
                    best, most = (prompt, rows), count
        if most == len(wanted):
            break
    return best
