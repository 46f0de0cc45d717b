"""Vision tokens in a prompt's embedding, found by their values.

A language model that reads pictures and prompt together leaves both in one embedding, and the transformer is not told
which token is which. So the language model is watched while something must know: what its layers make of a picture's
tokens is noted, eight numbers of each, and the embedding that reaches the transformer is searched for them. Whatever a
pipeline does in between (drop its template, crop, pad, repeat, cast, take every second token), the tokens found are
those of pictures. An embedding made before the watch, or given by hand, has none: it counts as text.
"""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

_NOTED = 8  # numbers of a token: two tokens that agree in all of them are one
_READINGS = 32  # prompts with pictures that are remembered, of all pipelines; a run needs one, or two with guidance

_readings: deque[list[Tensor]] = deque(maxlen=_READINGS)
"""What each layer made of a picture's tokens: (tokens, numbers) a layer, one list for each reading. Not one for each
pipeline, since it is values that are compared: so a copy of a watched pipeline is watched, too."""
_spans: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


class _Reading(threading.local):
    """What the language model is reading in this thread."""

    is_picture: Tensor | None = None
    """Where it reads a picture, of shape (batch, tokens); None while it reads none."""
    layers: list[Tensor]


def watch(pipeline: Any) -> list[RemovableHandle]:
    """Note what the pipeline's language model makes of pictures, until the handles are removed.

    Returns: the handles; none if the pipeline has no language model that reads pictures.
    """
    if not reads_pictures(pipeline):
        return []
    encoder = pipeline.text_encoder
    decoder, picture = encoder.get_decoder(), _picture_token(encoder)
    reading = _Reading()

    def begin(module: nn.Module, args: tuple[Any, ...], arguments: Mapping[str, Any]) -> None:
        ids = arguments.get("input_ids")
        is_picture = None if ids is None else ids == picture
        reading.is_picture = is_picture if is_picture is not None and bool(is_picture.any()) else None
        reading.layers = []

    def note(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        states = output[0] if isinstance(output, tuple) else output
        if reading.is_picture is not None:
            picked = states.detach()[reading.is_picture.to(states.device)]
            reading.layers.append(picked[:, :_NOTED].cpu())

    def end(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if reading.is_picture is not None and reading.layers:
            _readings.append(reading.layers)
        reading.is_picture = None

    last = [decoder.norm] if isinstance(getattr(decoder, "norm", None), nn.Module) else []
    return [
        encoder.register_forward_pre_hook(begin, with_kwargs=True),
        *(module.register_forward_hook(note) for module in (*decoder.layers, *last)),
        encoder.register_forward_hook(end),
    ]


def vision_span(embedding: Tensor) -> range:
    """Where the vision tokens lie in a prompt's embedding: from the first to the last, empty if none is known.

    What lies between two pictures, such as the name of the second, counts as vision.

    Args:
        embedding: (batch, tokens, features); searched once for each tensor, which a pipeline passes at every step.
    """
    if not _readings:
        return range(0)
    if embedding not in _spans:
        latest_first = tuple(_readings)[::-1]  # a copy: another thread may be reading a picture
        spans = _spans_of(embedding.detach()[..., :_NOTED].cpu(), latest_first)
        if len(spans) > 1:
            warnings.warn(
                "The vision tokens of a batch lie elsewhere in each prompt: all count as text. Run its prompts one by "
                "one, or act on text and vision alike.",
                stacklevel=2,
            )
        _spans[embedding] = spans.pop() if len(spans) == 1 else range(0)
    return _spans[embedding]


def reads_pictures(pipeline: Any) -> bool:
    """Whether a pipeline has a language model that can be watched while it reads pictures."""
    encoder: Any = getattr(pipeline, "text_encoder", None)
    return _picture_token(encoder) is not None and hasattr(encoder.get_decoder(), "layers")


def _picture_token(encoder: Any) -> int | None:
    """Its id in the language model's vocabulary."""
    config = getattr(encoder, "config", None)
    return getattr(config, "image_token_id", getattr(config, "image_token_index", None))


def _spans_of(tokens: Tensor, readings: Iterable[list[Tensor]]) -> set[range]:
    """The different spans of vision tokens in the samples of a batch, from their first numbers."""
    layer = next((layer for reading in readings for layer in reading if _has_any(tokens, layer)), None)
    if layer is None:
        return {range(0)}
    known = {tuple(row) for row in layer.to(tokens.dtype).tolist()}
    spans = set()
    for sample in tokens.tolist():
        found = [index for index, row in enumerate(sample) if tuple(row) in known]
        spans.add(range(found[0], found[-1] + 1) if found else range(0))
    return spans


def _has_any(tokens: Tensor, layer: Tensor) -> bool:
    """Whether the first or the last token of a picture is among these; a pipeline may have cropped one of the two."""
    ends = layer[[0, -1]].to(tokens.dtype)
    return bool((tokens[..., None, :] == ends).all(-1).any())
