"""Double- and single-stream blocks: LongCat-Image, Bria Fibo, HunyuanImage."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKLHunyuanImage, AutoencoderKLHunyuanImageRefiner, ClassifierFreeGuidance
from diffusers.pipelines.longcat_image import pipeline_longcat_image_edit
from transformers import SmolLM3Config, SmolLM3ForCausalLM

from image_pipelines import (
    FLUX_TRANSFORMER,
    WIDTH,
    assemble,
    embeddings,
    image_call,
    kl_vae,
    masked_texts,
    reference_picture,
)
from model_folders import build_tokenizer
from pipelines import WAN_VAE, Built, flow_match_euler, picture, ready
from text_encoders import clip, t5

pipeline_longcat_image_edit.calculate_dimensions = lambda area, ratio: (16, 8)  # it brings any picture to a megapixel


_HUNYUAN_VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": (32, 32),
    "layers_per_block": 1,
    "spatial_compression_ratio": 2,
}


def longcat_image() -> Built:
    pipe, call = _longcat(diffusers.LongCatImagePipeline)
    return pipe, call | {"height": 8, "width": 16, "enable_prompt_rewrite": False}


def longcat_image_edit() -> Built:
    """Editing: the tokens of the reference picture follow those of the generated one."""
    pipe, call = _longcat(diffusers.LongCatImageEditPipeline)
    return pipe, call | {"image": reference_picture()}


def visual_cloze_generation() -> Built:
    """A sheet of two rows: an example of two pictures, then a picture beside the one that is to be made."""
    return _cloze(diffusers.VisualClozeGenerationPipeline), _cloze_call()


def visual_cloze() -> Built:
    """The same, and what was made enlarged in a second part, with a schedule of its own."""
    call = _cloze_call(upsampling_height=16, upsampling_width=16, upsampling_strength=1.0)
    return _cloze(diffusers.VisualClozePipeline), call


def bria_fibo() -> Built:
    pipe = _fibo(diffusers.BriaFiboPipeline)
    return pipe, image_call(height=32, width=64, prompt="a cat puts on sunglasses", negative_prompt="a red circle")


def bria_fibo_edit() -> Built:
    """Editing: the tokens of the reference picture follow those of the generated one."""
    pipe, call = _fibo(diffusers.BriaFiboEditPipeline), bria_fibo()[1]
    return pipe, call | {"image": reference_picture(), "prompt": '{"edit_instruction": "a cat"}', "_auto_resize": False}


def hunyuan_image() -> Built:
    """Texts of two encoders, with padding of its own each."""
    vae = AutoencoderKLHunyuanImage(**_HUNYUAN_VAE, sample_size=32)
    texts = {"text_encoder_2": None, "tokenizer_2": None, "ocr_guider": None}
    pipe = _hunyuan(diffusers.HunyuanImagePipeline, vae, parts=texts, in_channels=4, text_embed_2_dim=16)
    call = image_call(height=8, width=16) | masked_texts("prompt_embeds_mask")
    for sign, valid in (("", 5), ("negative_", 3)):
        call[f"{sign}prompt_embeds_2"] = torch.randn(1, 5, 16)
        call[f"{sign}prompt_embeds_mask_2"] = torch.arange(5).lt(valid).long().unsqueeze(0)
    return pipe, call


def hunyuan_image_refiner() -> Built:
    """The picture to be refined lies in the channels; latents have a time axis."""
    vae = AutoencoderKLHunyuanImageRefiner(**_HUNYUAN_VAE, temporal_compression_ratio=1)
    sizes = {
        "in_channels": 16,
        "out_channels": 8,
        "patch_size": (1, 1, 1),
        "rope_axes_dim": (4, 6, 6),
        "guidance_embeds": True,
    }
    pipe = _hunyuan(diffusers.HunyuanImageRefinerPipeline, vae, parts={}, **sizes)
    call = image_call(height=8, width=16, image=reference_picture(), distilled_guidance_scale=3.0)
    return pipe, call | masked_texts("prompt_embeds_mask")


BUILDERS = (
    visual_cloze_generation,
    visual_cloze,
    longcat_image,
    longcat_image_edit,
    bria_fibo,
    bria_fibo_edit,
    hunyuan_image,
    hunyuan_image_refiner,
)


class _TextProcessor:
    """The pipeline takes its processor of pictures from it, which only the language model needs."""

    image_processor = None


def _longcat(kind: type) -> Built:
    """It can only be given prompts, no embeddings: the language model is passed over."""
    torch.manual_seed(0)
    transformer = diffusers.LongCatImageTransformer2DModel(**FLUX_TRANSFORMER | {"in_channels": 64})
    pipe = assemble(kind, transformer, kl_vae(16), parts={"text_processor": _TextProcessor()})
    texts = {"a cat": embeddings(), "a rat": embeddings(), "a red circle": embeddings()}
    pipe._encode_prompt = lambda prompt, *_: texts[prompt[0]]
    return pipe, image_call(guidance_scale=4.0, prompt="a cat", negative_prompt="a red circle")


def _cloze(kind: type) -> Any:
    """Inpainting by channels, as Flux Fill: noise 4, masked picture 4, mask 4."""
    torch.manual_seed(0)
    transformer = diffusers.FluxTransformer2DModel(**FLUX_TRANSFORMER | {"in_channels": 12, "out_channels": 4})
    (clip_encoder, clip_tokenizer), (t5_encoder, t5_tokenizer) = clip(WIDTH), t5(WIDTH)
    return ready(
        kind(
            scheduler=flow_match_euler(shift=3.0),
            vae=kl_vae(1),
            text_encoder=clip_encoder,
            tokenizer=clip_tokenizer,
            text_encoder_2=t5_encoder,
            tokenizer_2=t5_tokenizer,
            transformer=transformer,
            resolution=8,
        )
    )


def _cloze_call(**more: Any) -> dict[str, Any]:
    example, given = [picture(8, 8), picture(8, 8, (20, 80, 160))], picture(8, 8, (200, 180, 20))
    prompts = {"task_prompt": "the picture is mended", "content_prompt": "a cat"}
    images = {"image": [example, [given, None]]}
    return image_call(guidance_scale=30.0, max_sequence_length=12, **prompts, **images, **more)


def _fibo(kind: type) -> Any:
    """Each block brings in a layer of the language model; the first and the last ones are repeated."""
    torch.manual_seed(0)
    config = {key: value for key, value in FLUX_TRANSFORMER.items() if key != "pooled_projection_dim"}
    transformer = diffusers.BriaFiboTransformer2DModel(
        **config | {"in_channels": 16, "text_encoder_dim": WIDTH // 2, "rope_theta": 10000, "time_theta": 10000}
    )
    tokenizer = build_tokenizer()
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 2}
    language_model = SmolLM3ForCausalLM(
        SmolLM3Config(vocab_size=128256, hidden_size=WIDTH // 2, intermediate_size=16, pad_token_id=0, **heads)
    )
    pipe = assemble(kind, transformer, diffusers.AutoencoderKLWan(**WAN_VAE))
    pipe.register_modules(text_encoder=language_model.eval(), tokenizer=tokenizer)
    return pipe


def _hunyuan(kind: type, vae: Any, *, parts: dict[str, Any], **config: Any) -> Any:
    torch.manual_seed(0)
    transformer = diffusers.HunyuanImageTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=3,
        num_single_layers=3,
        num_refiner_layers=1,
        text_embed_dim=WIDTH,
        **{"rope_axes_dim": (8, 8), "out_channels": 4} | config,
    )
    return assemble(kind, transformer, vae, parts={"guider": ClassifierFreeGuidance(4.0), **parts})
