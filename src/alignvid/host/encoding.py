"""A text as a pipeline's own encoder has it, for what needs another text than the run's prompt."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from alignvid.errors import AttachmentError

_LENGTH = "max_sequence_length"


@torch.no_grad()
def encoded_text(pipeline: Any, text: str) -> Float[Tensor, "1 token feature"]:
    """The embedding of a text, as the pipeline's call would make it of a prompt; tokens that it masks are left out.

    Raises: AttachmentError if the pipeline has no text encoder, or no `encode_prompt` that gives embeddings.
    """
    encode = getattr(pipeline, "encode_prompt", None)
    if encode is None or getattr(pipeline, "text_encoder", None) is None:
        what = "A transformer alone" if pipeline is None else type(pipeline).__name__
        raise AttachmentError(
            f"{what} has no text encoder here, which must encode the negative text {text!r}; attach to a pipeline "
            "that has one, while it is loaded."
        )
    settings = {
        "prompt": text,
        "do_classifier_free_guidance": False,
        "device": getattr(pipeline, "_execution_device", None),
        _LENGTH: _length(pipeline),
    }
    known = inspect.signature(encode).parameters
    given = {name: value for name, value in settings.items() if name in known and value is not None}
    found = encode(**given)
    states, *others = found if isinstance(found, tuple | list) else (found,)
    if not isinstance(states, Tensor) or states.ndim != 3 or len(states) != 1:
        raise AttachmentError(f"{type(pipeline).__name__}.encode_prompt does not give the embedding of one text.")
    mask = others[0] if others else None
    if isinstance(mask, Tensor) and mask.shape == states.shape[:2]:
        return states[:, mask[0].bool()]
    return states


def _length(pipeline: Any) -> int | None:
    """Tokens that the pipeline's call asks for, which `encode_prompt` by itself may not."""
    parameter = inspect.signature(type(pipeline).__call__).parameters.get(_LENGTH)
    return None if parameter is None or parameter.default is inspect.Parameter.empty else parameter.default
