"""Real Qwen2.5-VL, Qwen3-VL and Qwen3.5 with random weights, tokenizer and processors, made in a second."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from alignvid.bench.judges.asking import PROMPT

_SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
_WORDS = f"yes no Yes No {PROMPT} You are a helpful assistant. system user assistant"
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{m.role}}\n"
    "{% if m.content is string %}{{m.content}}{% else %}{% for c in m.content %}"
    "{% if c.type=='video' or 'video' in c %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in c %}{{c.text}}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_THINKING = _TEMPLATE.replace(
    "assistant\n{% endif %}",
    "assistant\n{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% else %}<think>\n{% endif %}{% endif %}",
)
"""As Qwen3.5's own: a model thinks first unless it is asked not to."""


def make_qwen_2_5(folder: Path, *, repetition_penalty: float = 1.05) -> Path:
    """A Qwen2.5-VL of 0.4 million parameters."""
    ids = _make_tokenizer(folder)
    config = Qwen2_5_VLConfig(
        text_config={
            "model_type": "qwen2_5_vl_text",
            **_text_config(ids),
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 1e6},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "in_chans": 3,
            "out_hidden_size": 64,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [1],
            "tokens_per_second": 2,
            "hidden_act": "silu",
        },
        tie_word_embeddings=False,
        **_token_ids(ids),
    )
    config.architectures = ["Qwen2_5_VLForConditionalGeneration"]
    torch.manual_seed(0)
    _save(Qwen2_5_VLForConditionalGeneration(config), folder, repetition_penalty, 14, "Qwen2_5_VLProcessor")
    return folder


def make_qwen_3(folder: Path) -> Path:
    """A Qwen3-VL of 0.4 million parameters."""
    ids = _make_tokenizer(folder)
    config = Qwen3VLConfig(
        text_config={
            "model_type": "qwen3_vl_text",
            **_text_config(ids),
            "head_dim": 32,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
                "rope_theta": 1e6,
            },
        },
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "in_channels": 3,
            "out_hidden_size": 64,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "deepstack_visual_indexes": [0],
            "num_position_embeddings": 64,
        },
        tie_word_embeddings=False,
        **_token_ids(ids),
    )
    config.architectures = ["Qwen3VLForConditionalGeneration"]
    torch.manual_seed(0)
    _save(Qwen3VLForConditionalGeneration(config), folder, 1.0, 16, "Qwen3VLProcessor")
    return folder


def make_qwen_3_5(folder: Path, *, is_moe: bool = False) -> Path:
    """A Qwen3.5, dense or with experts: one layer of linear attention, one of softmax."""
    ids = _make_tokenizer(folder, _THINKING)
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    text = {
        "model_type": "qwen3_5_moe_text" if is_moe else "qwen3_5_text",
        **_text_config(ids),
        "head_dim": 32,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        **({**experts, "shared_expert_intermediate_size": 32} if is_moe else {}),
        "rope_parameters": {
            "rope_type": "default",
            "mrope_section": [2, 1, 1],
            "mrope_interleaved": True,
            "rope_theta": 1e6,
            "partial_rotary_factor": 0.25,
        },
    }
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 2,
        "in_channels": 3,
        "out_hidden_size": 64,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "num_position_embeddings": 64,
    }
    config_class = Qwen3_5MoeConfig if is_moe else Qwen3_5Config
    model_class = Qwen3_5MoeForConditionalGeneration if is_moe else Qwen3_5ForConditionalGeneration
    config = config_class(text_config=text, vision_config=vision, tie_word_embeddings=False, **_token_ids(ids))
    config.architectures = [model_class.__name__]
    torch.manual_seed(0)
    _save(model_class(config), folder, 1.0, 16, "Qwen3VLProcessor")
    return folder


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Of bytes and the commonest of their sequences in a judge's prompt."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=440, special_tokens=_SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([_WORDS] * 50, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=_SPECIAL[1:],
    )
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def _make_tokenizer(folder: Path, template: str = _TEMPLATE) -> dict[str, int]:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return {name: tokenizer.convert_tokens_to_ids(name) for name in _SPECIAL} | {"size": len(tokenizer)}


def _text_config(ids: dict[str, int]) -> dict:
    return {
        "vocab_size": -(-ids["size"] // 64) * 64,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
    }


def _token_ids(ids: dict[str, int]) -> dict[str, int]:
    return {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }


def _save(model: torch.nn.Module, folder: Path, penalty: float, patch: int, processor: str) -> None:
    for name, weight in model.named_parameters():
        if "lm_head" in name:
            weight.data *= 20  # far apart, so that the likeliest token does not depend on rounding
    model.generation_config.repetition_penalty = penalty
    model.generation_config.eos_token_id = [model.config.text_config.eos_token_id]
    model.save_pretrained(folder)
    pixels = {
        "patch_size": patch,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    kinds = {
        "preprocessor_config.json": ("image_processor_type", "Qwen2VLImageProcessor"),
        "video_preprocessor_config.json": (
            "video_processor_type",
            "Qwen3VLVideoProcessor" if patch == 16 else "Qwen2VLVideoProcessor",
        ),
    }
    for name, (key, kind) in kinds.items():
        size = {"size": {"shortest_edge": 3136, "longest_edge": 602112 * 40}}
        content = {**pixels, **size, key: kind, "processor_class": processor}
        (folder / name).write_text(json.dumps(content))
