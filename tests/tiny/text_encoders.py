"""Text encoders of real classes, tiny, for pipelines that take no embeddings."""

from __future__ import annotations

from typing import Any

import torch
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from tiny_qwen import build_tokenizer

_LAYERS = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def clip(width: int) -> tuple[CLIPTextModel, PreTrainedTokenizerFast]:
    """Of embeddings of that width, with its tokenizer."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    tokenizer.model_max_length = 77
    ends = {"bos_token_id": 1, "eos_token_id": 1}
    config = CLIPTextConfig(vocab_size=len(tokenizer), hidden_size=width, projection_dim=width, **_LAYERS, **ends)
    return CLIPTextModel(config).eval(), tokenizer


def t5(width: int) -> tuple[T5EncoderModel, PreTrainedTokenizerFast]:
    """Of embeddings of that width, with its tokenizer."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    heads: dict[str, Any] = {"d_model": width, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    return T5EncoderModel(T5Config(vocab_size=len(tokenizer), **heads)).eval(), tokenizer
