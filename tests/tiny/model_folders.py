"""Folders of real diffusers pipelines, as `save_pretrained` leaves them: tiny, with tokenizer and text encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import DDIMScheduler, DiffusionPipeline, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from pipelines import framepack_f1, hunyuan_t2v, wan22_i2v, wan_i2v, wan_t2v

WORDS = ("the", "cat", "puts", "on", "sunglasses", "a", "dog", "red", "circle", "disappears")


def save_wan_i2v(folder: Path) -> Path:
    return _save(wan_i2v()[0], folder)


def save_wan_t2v(folder: Path) -> Path:
    return _save(wan_t2v()[0], folder)


def save_wan22_i2v(folder: Path) -> Path:
    return _save(wan22_i2v()[0], folder)


def save_unsupported(folder: Path) -> Path:
    """A text-to-image pipeline without a transformer."""
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(4, 8),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=2,
        cross_attention_dim=8,
        attention_head_dim=2,
    )
    absent = dict.fromkeys(("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    pipe = StableDiffusionPipeline(
        unet=unet, scheduler=DDIMScheduler(steps_offset=1, clip_sample=False), **absent, requires_safety_checker=False
    )
    pipe.save_pretrained(folder)
    return folder


def _save(pipeline: DiffusionPipeline, folder: Path) -> Path:
    tokenizer = build_tokenizer()
    pipeline.register_modules(tokenizer=tokenizer, text_encoder=_text_encoder(len(tokenizer)))
    pipeline.save_pretrained(folder)
    return folder


def build_tokenizer() -> PreTrainedTokenizerFast:
    tokens = {token: index for index, token in enumerate(("<pad>", "</s>", "<unk>", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def _text_encoder(vocabulary_size: int) -> UMT5EncoderModel:
    torch.manual_seed(0)
    sizes = {"d_model": 32, "d_kv": 16, "num_heads": 2, "d_ff": 32, "num_layers": 1}
    return UMT5EncoderModel(UMT5Config(vocab_size=vocabulary_size, **sizes)).eval()


def save_flux_kontext(folder: Path) -> Path:
    """The pipeline brings any picture to a megapixel: the autoencoder makes 32 pixels one latent."""
    from image_pipelines import flux_kontext, kl_vae

    pipeline = flux_kontext()[0]
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    clip = CLIPTextConfig(vocab_size=len(tokenizer), hidden_size=32, max_position_embeddings=512, **layers)
    sizes = {"d_model": 32, "d_kv": 16, "num_heads": 2, "d_ff": 32, "num_layers": 1}
    pipeline.register_modules(
        tokenizer=tokenizer,
        tokenizer_2=build_tokenizer(),
        text_encoder=CLIPTextModel(clip).eval(),
        text_encoder_2=T5EncoderModel(T5Config(vocab_size=len(tokenizer), **sizes)).eval(),
        vae=kl_vae(1, blocks=6).eval(),
    )
    pipeline.save_pretrained(folder)
    return folder


def save_qwen_image(folder: Path) -> Path:
    """From text."""
    from image_pipelines import qwen_image, qwen_vision_language_model

    pipeline = qwen_image()[0]
    tokenizer = build_tokenizer()
    model = qwen_vision_language_model(vocabulary_size=len(tokenizer))
    pipeline.register_modules(tokenizer=tokenizer, text_encoder=model)
    pipeline.save_pretrained(folder)
    return folder


def save_qwen_image_edit(folder: Path) -> Path:
    """With a language model that reads the picture."""
    from reading_pipelines import qwen_image_edit_reading

    qwen_image_edit_reading()[0].save_pretrained(folder)
    return folder


class FramePackFolders(NamedTuple):
    """FramePack as it is published: a transformer alone, and the two models that it borrows the rest from."""

    transformer: Path
    base: Path
    image_encoder: Path


def save_framepack_f1(folder: Path) -> FramePackFolders:
    folders = FramePackFolders(folder / "FramePack_F1", folder / "HunyuanVideo", folder / "redux")
    framepack, hunyuan = framepack_f1()[0], hunyuan_t2v()[0]
    framepack.transformer.save_pretrained(folders.transformer)
    framepack.image_encoder.save_pretrained(folders.image_encoder / "image_encoder")
    framepack.feature_extractor.save_pretrained(folders.image_encoder / "feature_extractor")
    hunyuan.register_modules(**_hunyuan_text_encoders())
    hunyuan.save_pretrained(folders.base)
    return folders


def _hunyuan_text_encoders() -> dict[str, Any]:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    layers = {"num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}  # the last but two is read
    llama = LlamaConfig(vocab_size=len(tokenizer), hidden_size=16, max_position_embeddings=512, **layers)
    clip = CLIPTextConfig(vocab_size=len(tokenizer), hidden_size=8, projection_dim=8, **layers)
    return {
        "tokenizer": tokenizer,
        "text_encoder": LlamaModel(llama).eval(),
        "tokenizer_2": build_tokenizer(),
        "text_encoder_2": CLIPTextModel(clip).eval(),
    }
