"""Tiny pipelines whose embeddings are a tiny T5's, so that words can be found in them.

Most builders give a pipeline embeddings in place of prompts and text encoders. Here these embeddings are what a real
encoder of their width makes of a prompt, padded to their length: what the transformer is given differs in nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from text_encoders import t5

PROMPT = "zq yes"
"""Short, for some pipelines are given five tokens."""


def positions_of(word: str, prompt: str = PROMPT) -> list[int]:
    """Tokens of a word in a prompt, by the offsets that the tokenizer itself gives."""
    offsets = t5(8)[1](prompt, return_offsets_mapping=True)["offset_mapping"]
    start, stop = prompt.index(word), prompt.index(word) + len(word)
    return [index for index, (begin, end) in enumerate(offsets) if begin < stop and end > start]


def give_encoders(pipe: Any, call: Mapping[str, Any]) -> None:
    """Put a text encoder into the pipeline for each width of its embeddings; none if it is given prompts."""
    for index, width in enumerate(_widths(call)):
        suffix = f"_{index + 1}" if index else ""
        encoder, tokenizer = t5(width)
        setattr(pipe, f"text_encoder{suffix}", encoder)
        setattr(pipe, f"tokenizer{suffix}", tokenizer)


def encoded(pipe: Any, call: Mapping[str, Any], prompt: str = PROMPT, negative: str = PROMPT) -> dict[str, Any]:
    """The call, with what the pipeline's encoders make of these prompts in place of its embeddings."""
    widths = _widths(call)
    made = dict(call)
    for name, value in call.items():
        if _is_embedding(name, value):
            text = negative if "negative" in name else prompt
            made[name] = _like(value, lambda like, text=text: _encoded(pipe, widths, like, text))
    return made | {name: prompt for name in ("prompt", "negative_prompt") if isinstance(call.get(name), str)}


def _encoded(pipe: Any, widths: list[int], like: Tensor, prompt: str) -> Tensor:
    index = widths.index(like.shape[-1])
    suffix = f"_{index + 1}" if index else ""
    encoder, tokenizer = getattr(pipe, f"text_encoder{suffix}"), getattr(pipe, f"tokenizer{suffix}")
    settings: dict[str, Any] = {"padding": "max_length", "truncation": True, "max_length": like.shape[-2]}
    samples = 1 if like.ndim == 2 else like.shape[-3]
    ids = tokenizer([prompt] * samples, **settings, return_tensors="pt").input_ids
    with torch.no_grad():
        states = encoder(ids)[0]
    return states.reshape(like.shape[-3:]).expand(like.shape).to(like.dtype)


def _widths(call: Mapping[str, Any]) -> list[int]:
    tensors = [part for name, value in call.items() if _is_embedding(name, value) for part in _tensors(value)]
    return list(dict.fromkeys(part.shape[-1] for part in tensors))


def _is_embedding(name: str, value: Any) -> bool:
    tensors = _tensors(value)
    is_other = "pooled" in name or "mask" in name
    return "prompt_embeds" in name and not is_other and bool(tensors) and all(part.ndim >= 2 for part in tensors)


def _tensors(value: Any) -> list[Tensor]:
    parts = value if isinstance(value, list | tuple) else [value]
    return [part for part in parts if isinstance(part, Tensor) and part.is_floating_point()]


def _like(value: Any, make: Any) -> Any:
    return [make(part) for part in value] if isinstance(value, list) else make(value)
