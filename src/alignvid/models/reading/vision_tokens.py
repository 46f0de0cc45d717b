"""Vision tokens in a prompt's embedding, found by their values.

A language model that reads pictures and prompt together leaves both in one embedding, and the transformer is not given
which token is which. So the language model is watched while something must know: what its layers make of a picture's
tokens is noted, eight numbers of each, and the embedding that reaches the transformer is searched for them. Whatever a
pipeline does in between (drop its template, crop, pad, repeat, cast, take every second token), the tokens found are
those of pictures. Of an embedding that was made before the watch, nothing is known.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from alignvid.models.family import Arguments, TextRows
from alignvid.models.reading.per_tensor import PerTensor

_NOTED = 8  # numbers of a token: two tokens that agree in all of them are one
_WORDS = 16  # tokens of a prompt without pictures, its last ones: a pipeline may crop a few of these, not all
_READINGS = 32  # prompts that are remembered, of all pipelines; a run needs one, or two with guidance


class Reading(NamedTuple):
    """A prompt as a language model read it."""

    has_pictures: bool
    layers: list[Tensor]
    """What each layer made of its picture tokens, or of its last words if it has none: (tokens, numbers)."""


_readings: deque[Reading] = deque(maxlen=_READINGS)
"""Not by pipeline, since it is values that are compared: so a copy of a watched pipeline is watched, too."""
_spans = PerTensor[range | None]()


class _Running(threading.local):
    """What a language model is reading in this thread."""

    noted: Tensor | None = None
    """Which of its tokens are noted, of shape (batch, tokens); None while it reads nothing."""
    reading: Reading


def watch(pipeline: Any) -> list[RemovableHandle]:
    """Note what the pipeline's language model makes of prompts, until the handles are removed.

    Returns: the handles; none if the pipeline has no language model that reads pictures.
    """
    if not reads_pictures(pipeline):
        return []
    encoder = pipeline.text_encoder
    decoder, picture = encoder.get_decoder(), _picture_token(encoder)
    running = _Running()

    def begin(module: nn.Module, args: tuple[Any, ...], arguments: Mapping[str, Any]) -> None:
        running.noted = None
        if (ids := arguments.get("input_ids")) is not None:
            is_picture = ids == picture
            has_pictures = bool(is_picture.any())
            running.noted = is_picture if has_pictures else _last_words(ids, arguments.get("attention_mask"))
            running.reading = Reading(has_pictures, [])

    def note(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        states = output[0] if isinstance(output, tuple) else output
        if running.noted is not None:
            picked = states.detach()[running.noted.to(states.device)]
            running.reading.layers.append(picked[:, :_NOTED].cpu())

    def end(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if running.noted is not None and running.reading.layers:
            _readings.append(running.reading)
        running.noted = None

    last = [decoder.norm] if isinstance(getattr(decoder, "norm", None), nn.Module) else []
    return [
        encoder.register_forward_pre_hook(begin, with_kwargs=True),
        *(module.register_forward_hook(note) for module in (*decoder.layers, *last)),
        encoder.register_forward_hook(end),
    ]


def vision_span(embedding: Tensor) -> range | None:
    """Where the vision tokens lie in a prompt's embedding: from the first to the last, empty if there are none.

    What lies between two pictures, such as the name of the second, counts as vision. None if no watch saw the prompt
    being read, or they lie elsewhere in each sample.

    Args:
        embedding: (batch, tokens, features); searched once for each tensor, which a pipeline passes at every step.
    """
    if not _readings:
        return None
    return _spans.of(embedding, lambda: _span_in(embedding.detach()[..., :_NOTED].cpu()))


def leading_vision(embedding: Tensor) -> int | None:
    """Tokens up to the last one of a picture, where pictures come first; None if that is not known."""
    span = vision_span(embedding)
    return None if span is None else span.stop


def text_behind_vision(transformer: Any, arguments: Arguments) -> tuple[TextRows, ...]:
    """The rows of the stream `text`, where those of `vision` lie before it."""
    states = arguments["encoder_hidden_states"]
    return (TextRows(states, leading_vision(states) or 0),)


def reads_pictures(pipeline: Any) -> bool:
    """Whether a pipeline has a language model that can be watched while it reads pictures."""
    encoder: Any = getattr(pipeline, "text_encoder", None)
    return _picture_token(encoder) is not None and hasattr(encoder.get_decoder(), "layers")


def _picture_token(encoder: Any) -> int | None:
    """Its id in the language model's vocabulary."""
    config = getattr(encoder, "config", None)
    return getattr(config, "image_token_id", getattr(config, "image_token_index", None))


def _last_words(ids: Tensor, mask: Tensor | None) -> Tensor:
    """The last tokens of each prompt that are no padding, as a mask."""
    is_valid = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
    from_the_end = is_valid.flip(-1).cumsum(-1).flip(-1)
    return is_valid & (from_the_end <= _WORDS)


def _span_in(tokens: Tensor) -> range | None:
    """The span of vision tokens in all samples of a batch, from their first numbers; None if they differ, or if no
    reading fits.
    """
    latest_first = tuple(_readings)[::-1]  # a copy: another thread may be reading
    layers = ((reading, layer) for reading in latest_first for layer in reading.layers)
    reading, layer = next((pair for pair in layers if _fits(tokens, *pair)), (None, None))
    if reading is None or layer is None:
        return None
    if not reading.has_pictures:
        return range(0)
    known = {tuple(row) for row in layer.to(tokens.dtype).tolist()}
    spans = set()
    for sample in tokens.tolist():
        found = [index for index, row in enumerate(sample) if tuple(row) in known]
        spans.add(range(found[0], found[-1] + 1) if found else range(0))
    return spans.pop() if len(spans) == 1 else None


def _fits(tokens: Tensor, reading: Reading, layer: Tensor) -> bool:
    """Whether any of its words is here, or the first or the last token of its pictures; one of these may be cropped."""
    ends = layer[[0, -1]] if reading.has_pictures else layer
    return bool((tokens[..., None, :] == ends.to(tokens.dtype)).all(-1).any())
