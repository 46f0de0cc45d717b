"""Pipelines whose language model reads the pictures with the prompt: a real one, tiny, with its real processor.

Each leaves vision tokens in the prompt's embedding: at its beginning or, in Kandinsky, at its end.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import (
    AutoProcessor,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

import image_pipelines
from picture_pipelines import flux_like, joint
from pipelines import Built, awoken, hunyuan_i2v_latent_concat, hunyuan_i2v_token_replace, ready
from sibling_pipelines import kandinsky5_i2i
from text_encoders import clip
from tiny_qwen import build_tokenizer as build_qwen_tokenizer
from tiny_qwen import make_qwen_2_5, make_qwen_3

PROMPTS = {"prompt": "a cat puts on sunglasses", "negative_prompt": "a red circle"}
LLAVA_TEMPLATE = (
    "<|start_header_id|>system<|end_header_id|>\n\n<image>\nDescribe the video:<|eot_id|>\n\n"
    "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
)


def qwen_image_edit_reading() -> Built:
    return _qwen_edit(image_pipelines.qwen_image_edit())


def qwen_image_edit_plus_reading() -> Built:
    """Two pictures, the name of each before it."""
    return _qwen_edit(image_pipelines.qwen_image_edit_plus())


def longcat_image_edit_reading() -> Built:
    pipe, call = flux_like.longcat_image_edit()
    del pipe._encode_prompt
    model, processor = language_model("qwen2.5")
    pipe.image_processor_vl = processor.image_processor
    parts = {"text_encoder": model, "tokenizer": processor.tokenizer, "text_processor": processor}
    return _reading(pipe, "joint_attention_dim", parts), call


def joyimage_edit_reading() -> Built:
    return _joy(joint.joyimage_edit())


def joyimage_edit_plus_reading() -> Built:
    """Two pictures, and both passes of guidance in one batch."""
    pipe, call = joint.joyimage_edit_plus()
    del pipe.encode_prompt_multiple_images
    return _joy((pipe, call))


def kandinsky5_i2i_reading() -> Built:
    """The picture comes after the prompt."""
    pipe, call = kandinsky5_i2i()
    model, processor = language_model("qwen2.5")
    parts = {"text_encoder": model, "tokenizer": processor, **_clip(pipe.transformer.config.in_text_dim2)}
    pipe.prompt_template_encode_start_idx = _tokens_before(processor, pipe.prompt_template, "{}")
    return _reading(pipe, "in_text_dim", parts), _with_prompts(call)


def hunyuan_i2v_latent_concat_reading() -> Built:
    """Every second of the picture's tokens."""
    return _hunyuan(hunyuan_i2v_latent_concat())


def hunyuan_i2v_token_replace_reading() -> Built:
    """Every fourth of the picture's tokens."""
    return _hunyuan(hunyuan_i2v_token_replace())


BUILDERS = (
    qwen_image_edit_reading,
    qwen_image_edit_plus_reading,
    longcat_image_edit_reading,
    joyimage_edit_reading,
    joyimage_edit_plus_reading,
    kandinsky5_i2i_reading,
    hunyuan_i2v_latent_concat_reading,
    hunyuan_i2v_token_replace_reading,
)


@cache
def language_model(kind: str) -> tuple[Any, Any]:
    """A tiny Qwen2.5-VL or Qwen3-VL and its processor."""
    make, model = {
        "qwen2.5": (make_qwen_2_5, transformers.Qwen2_5_VLForConditionalGeneration),
        "qwen3": (make_qwen_3, transformers.Qwen3VLForConditionalGeneration),
    }[kind]
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        return model.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)


def _qwen_edit(built: Built) -> Built:
    """The template is dropped up to the first picture, as by the released tokenizer."""
    pipe, call = built
    parts, template = _parts("qwen2.5"), pipe.prompt_template_encode.replace("<|vision_start|>", "{}")
    pipe.prompt_template_encode_start_idx = _tokens_before(parts["processor"], template, "{}")
    return _reading(pipe, "joint_attention_dim", parts), _with_prompts(call)


def _joy(built: Built) -> Built:
    pipe, call = built
    parts, kinds = _parts("qwen3"), pipe.prompt_template_encode
    pipe.prompt_template_encode_start_idx = {
        kind: _tokens_before(parts["processor"], template, "{}") for kind, template in kinds.items()
    }
    return _reading(pipe, "text_dim", parts), _with_prompts(call)


def _hunyuan(built: Built) -> Built:
    pipe, call = built
    tokenizer = build_qwen_tokenizer()
    headers = ["<image>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": headers})
    parts = {"tokenizer": tokenizer, "text_encoder": _llava(tokenizer), "image_processor": _image_processor()}
    before = len(tokenizer(LLAVA_TEMPLATE.partition("<image>")[0]).input_ids)
    prompt_template = {
        "template": LLAVA_TEMPLATE,
        "crop_start": len(tokenizer(LLAVA_TEMPLATE.partition("{}")[0]).input_ids),
        "image_emb_start": before,
        "image_emb_end": before + 16,
        "image_emb_len": 16,
    }
    pipe = _reading(pipe, "text_embed_dim", parts | _clip(pipe.transformer.config.pooled_projection_dim))
    return pipe, _with_prompts(call) | {"prompt_template": prompt_template, "max_sequence_length": 40}


def _llava(tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    torch.manual_seed(0)
    layers = {"num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
    text = LlamaConfig(vocab_size=512, hidden_size=64, num_key_value_heads=2, **layers)
    vision = CLIPVisionConfig(image_size=8, patch_size=2, hidden_size=16, **layers)
    picture = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(text_config=text, vision_config=vision, image_token_index=picture, pad_token_id=0)
    return LlavaForConditionalGeneration(config).eval()


def _image_processor() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})


def _clip(width: int) -> dict[str, Any]:
    """The second text encoder."""
    return dict(zip(("text_encoder_2", "tokenizer_2"), clip(width), strict=True))


def _parts(kind: str) -> dict[str, Any]:
    model, processor = language_model(kind)
    return {"text_encoder": model, "tokenizer": processor.tokenizer, "processor": processor}


def _reading(pipe: Any, width: str, parts: dict[str, Any]) -> Any:
    """The pipeline with these parts, its transformer as wide as the language model under that name in its config."""
    torch.manual_seed(0)
    config = {**pipe.transformer.config, width: 64}
    transformer: nn.Module = awoken(type(pipe.transformer).from_config(config))
    pipe.register_modules(transformer=transformer, **parts)
    return ready(pipe)


def _with_prompts(call: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in call.items() if "prompt" not in key} | PROMPTS


def _tokens_before(processor: Any, template: str, part: str) -> int:
    return len(processor.tokenizer(template.partition(part)[0]).input_ids)
