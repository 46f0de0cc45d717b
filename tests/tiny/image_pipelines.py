"""Real diffusers pipelines for images and editing, small enough to run on a CPU in a fraction of a second.

As in `pipelines.py`, each builder gives a pipeline and the arguments of its call. Sides differ, so that rows and
columns cannot be confused, and reference pictures have another size than what is generated, so that tokens cannot be.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
)
from diffusers.pipelines.omnigen import pipeline_omnigen, processor_omnigen
from diffusers.pipelines.qwenimage import (
    pipeline_qwenimage_edit,
    pipeline_qwenimage_edit_inpaint,
    pipeline_qwenimage_edit_plus,
    pipeline_qwenimage_layered,
)
from PIL import Image
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from model_folders import build_tokenizer
from pipelines import Built, flow_match_euler, picture, ready

WIDTH = 32  # of every text embedding, and of the pooled ones
TEXT_TOKENS = 12

FLUX_TRANSFORMER = {
    "patch_size": 1,
    "in_channels": 4,
    "num_layers": 3,
    "num_single_layers": 3,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": WIDTH,
    "pooled_projection_dim": WIDTH,
    "axes_dims_rope": [4, 4, 8],
}
QWEN_TRANSFORMER = {
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 4,
    "num_layers": 3,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": WIDTH,
    "axes_dims_rope": (8, 4, 4),
}
SD3_TRANSFORMER = {
    "sample_size": 16,
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 4,  # the last one's text has no queries
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": WIDTH,
    "caption_projection_dim": 32,
    "pooled_projection_dim": WIDTH,
    "pos_embed_max_size": 16,
}


for _module in (pipeline_qwenimage_edit, pipeline_qwenimage_edit_inpaint):  # they bring any picture to a megapixel
    _module.calculate_dimensions = lambda area, ratio: (32, 64, None)
for _module in (pipeline_qwenimage_edit_plus, pipeline_qwenimage_layered):
    _module.calculate_dimensions = lambda area, ratio: (32, 64)


def flux() -> Built:
    return _flux(diffusers.FluxPipeline), _flux_call()


def flux_img2img() -> Built:
    return _flux(diffusers.FluxImg2ImgPipeline), _flux_call(image=picture(16, 8), strength=0.7)


def flux_inpaint() -> Built:
    pipe = _flux(diffusers.FluxInpaintPipeline)
    call = _flux_call(image=picture(16, 8), mask_image=mask_image(16, 8), strength=0.7)
    return pipe, call


def flux_fill() -> Built:
    """Inpainting by channels: noise 4, masked picture 4, mask 4 (one per pixel of a latent, 2x2 latents a token)."""
    pipe = _flux(diffusers.FluxFillPipeline, in_channels=12, out_channels=4)
    return pipe, _flux_call(image=picture(16, 8), mask_image=mask_image(16, 8))


def flux_control() -> Built:
    pipe = _flux(diffusers.FluxControlPipeline, in_channels=8, out_channels=4)
    return pipe, _flux_call(control_image=picture(16, 8))


def flux_controlnet() -> Built:
    torch.manual_seed(0)
    controlnet = diffusers.FluxControlNetModel(**FLUX_TRANSFORMER | {"num_layers": 1, "num_single_layers": 1})
    pipe = _flux(diffusers.FluxControlNetPipeline, parts={"controlnet": controlnet})
    return pipe, _flux_call(control_image=picture(16, 8))


def flux_kontext() -> Built:
    """Editing: the tokens of the reference picture follow those of the generated one."""
    pipe = _flux(diffusers.FluxKontextPipeline)
    return pipe, _flux_call(image=picture(24, 16), max_area=128, _auto_resize=False)


def flux_kontext_inpaint() -> Built:
    pipe = _flux(diffusers.FluxKontextInpaintPipeline)
    call = _flux_call(image=picture(16, 8), mask_image=mask_image(16, 8), strength=1.0)
    return pipe, call | {"max_area": 128, "_auto_resize": False}


def flux2() -> Built:
    return _flux2(diffusers.Flux2Pipeline), _flux2_call()


def flux2_edit() -> Built:
    return _flux2(diffusers.Flux2Pipeline), _flux2_call(image=reference_picture())


def flux2_klein() -> Built:
    """Editing from two pictures, with an unconditional pass."""
    pipe = _flux2(diffusers.Flux2KleinPipeline)
    call = _flux2_call(image=[reference_picture(), reference_picture()], negative_prompt_embeds=embeddings())
    return pipe, call


def flux2_klein_kv() -> Built:
    """Editing with the reference's keys computed once and kept."""
    pipe = _flux2(diffusers.Flux2KleinKVPipeline)
    call = _flux2_call(image=reference_picture())
    del call["guidance_scale"]
    return pipe, call


def qwen_image() -> Built:
    return _qwen(diffusers.QwenImagePipeline), _qwen_call()


def qwen_image_img2img() -> Built:
    return _qwen(diffusers.QwenImageImg2ImgPipeline), _qwen_call(image=picture(32, 16), strength=0.7)


def qwen_image_inpaint() -> Built:
    pipe = _qwen(diffusers.QwenImageInpaintPipeline)
    call = _qwen_call(image=picture(32, 16), mask_image=mask_image(32, 16), strength=0.7)
    return pipe, call


def qwen_image_edit() -> Built:
    return _qwen(diffusers.QwenImageEditPipeline, parts={"processor": None}), _qwen_call(image=reference_picture())


def qwen_image_edit_inpaint() -> Built:
    pipe = _qwen(diffusers.QwenImageEditInpaintPipeline, parts={"processor": None})
    call = _qwen_call(image=picture(32, 16), mask_image=mask_image(32, 16), strength=0.7)
    return pipe, call


def qwen_image_edit_plus() -> Built:
    """Editing from two reference pictures."""
    pipe = _qwen(diffusers.QwenImageEditPlusPipeline, parts={"processor": None})
    return pipe, _qwen_call(image=[reference_picture(), picture(64, 48)])


def qwen_image_layered() -> Built:
    """A picture taken apart into two layers. Four channels would be taken for latents if these had four, too."""
    config = {"use_layer3d_rope": True, "use_additional_t_cond": True, "in_channels": 32, "out_channels": 8}
    vae = {"input_channels": 4, "z_dim": 8, "latents_mean": [0.0] * 8, "latents_std": [1.0] * 8}
    pipe = _qwen(diffusers.QwenImageLayeredPipeline, parts={"processor": None}, vae=vae, **config)
    pipe.register_modules(text_encoder=qwen_vision_language_model(vocabulary_size=32))  # asked for its dtype
    call = _qwen_call(image=picture(64, 32).convert("RGBA"), layers=2, prompt="else it would caption the picture")
    call |= {"output_type": "pt"}  # latents cannot be had: the pipeline fails on its own return statement
    return pipe, {name: value for name, value in call.items() if name not in ("width", "height")}


def sd3() -> Built:
    """Stable Diffusion 3 medium: no norms on queries and keys."""
    return _sd3(diffusers.StableDiffusion3Pipeline), _sd3_call()


def sd3_img2img() -> Built:
    return _sd3(diffusers.StableDiffusion3Img2ImgPipeline), _sd3_call(image=picture(16, 8), strength=0.7)


def sd3_inpaint() -> Built:
    """The pipeline allows no other number of channels."""
    pipe = _sd3(diffusers.StableDiffusion3InpaintPipeline, in_channels=16, out_channels=16)
    call = _sd3_call(image=picture(16, 8), mask_image=mask_image(16, 8), strength=0.7)
    return pipe, call


def sd35() -> Built:
    """Stable Diffusion 3.5 medium: norms, and a second attention of the picture alone in the first blocks."""
    pipe = _sd3(diffusers.StableDiffusion3Pipeline, qk_norm="rms_norm", dual_attention_layers=(0, 1))
    return pipe, _sd3_call()


def z_image() -> Built:
    return _z_image(diffusers.ZImagePipeline), _z_image_call()


def z_image_img2img() -> Built:
    return _z_image(diffusers.ZImageImg2ImgPipeline), _z_image_call(image=picture(32, 16), strength=0.7)


def z_image_inpaint() -> Built:
    pipe = _z_image(diffusers.ZImageInpaintPipeline)
    call = _z_image_call(image=picture(32, 16), mask_image=mask_image(32, 16), strength=0.7)
    return pipe, call


def chroma() -> Built:
    return _chroma(diffusers.ChromaPipeline), _chroma_call()


def chroma_img2img() -> Built:
    return _chroma(diffusers.ChromaImg2ImgPipeline), _chroma_call(image=picture(16, 8), strength=0.7)


def lumina2() -> Built:
    """Padding of the text is left out before the joint blocks; the two passes have texts of different length."""
    torch.manual_seed(0)
    transformer = diffusers.Lumina2Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        hidden_size=32,
        num_layers=3,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=(8, 4, 4),
        axes_lens=(64, 32, 32),
        cap_feat_dim=WIDTH,
    )
    pipe = assemble(diffusers.Lumina2Pipeline, transformer, kl_vae(4, blocks=2))
    return pipe, {
        **image_call(height=32, width=64, guidance_scale=4.0),
        **masked_texts("prompt_attention_mask"),
    }


def hidream() -> Built:
    torch.manual_seed(0)
    transformer = diffusers.HiDreamImageTransformer2DModel(
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=3,
        num_single_layers=3,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_channels=[WIDTH, WIDTH],
        text_emb_dim=WIDTH,
        num_routed_experts=2,
        num_activated_experts=1,
        axes_dims_rope=(4, 2, 2),
        max_resolution=(16, 16),
        llama_layers=(0, 1, 0, 1, 0, 1),
        force_inference_output=True,
    )
    absent = ("text_encoder_3", "tokenizer_3", "text_encoder_4", "tokenizer_4")
    pipe = assemble(
        diffusers.HiDreamImagePipeline, transformer, kl_vae(4), text_encoders=2, parts=dict.fromkeys(absent)
    )
    pipe.default_sample_size = 12  # the pipeline brings any size to this area
    call = image_call(height=8, width=16, guidance_scale=5.0)
    for sign in ("", "negative_"):
        call[f"{sign}prompt_embeds_t5"] = embeddings()
        call[f"{sign}prompt_embeds_llama3"] = torch.randn(2, 1, TEXT_TOKENS, WIDTH)
        call[f"{sign}pooled_prompt_embeds"] = torch.randn(1, WIDTH)
    return pipe, call


def sana() -> Built:
    """Linear attention within the picture, softmax without norms towards the text."""
    pipe = _sana(diffusers.SanaPipeline, flow_match_euler(shift=3.0))
    call = _sana_call() | masked_texts("prompt_attention_mask") | {"negative_prompt": None}
    return pipe, call | {"use_resolution_binning": False}


def sana_sprint() -> Built:
    """Two steps, guidance distilled, timesteps of consistency training."""
    pipe = _sana(
        diffusers.SanaSprintPipeline, diffusers.SCMScheduler(), guidance_embeds=True, qk_norm="rms_norm_across_heads"
    )
    texts = {key: value for key, value in masked_texts("prompt_attention_mask").items() if "negative" not in key}
    return pipe, _sana_call() | texts | {"num_inference_steps": 2, "use_resolution_binning": False}


def cogview4() -> Built:
    torch.manual_seed(0)
    pipe = assemble(diffusers.CogView4Pipeline, _cogview4_transformer(4), kl_vae(4, blocks=4))
    return pipe, image_call(height=32, width=64, guidance_scale=4.0) | two_texts()


def cogview4_control() -> Built:
    torch.manual_seed(0)
    pipe = assemble(diffusers.CogView4ControlPipeline, _cogview4_transformer(8), kl_vae(4, blocks=4))
    return pipe, image_call(height=32, width=64, guidance_scale=4.0, control_image=picture(64, 32)) | two_texts()


def aura_flow() -> Built:
    torch.manual_seed(0)
    transformer = diffusers.AuraFlowTransformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        num_mmdit_layers=3,
        num_single_dit_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        caption_projection_dim=32,
        out_channels=4,
        pos_embed_max_size=256,
    )
    pipe = assemble(diffusers.AuraFlowPipeline, transformer, kl_vae(4, blocks=2))
    return pipe, image_call(height=16, width=32, guidance_scale=3.5) | masked_texts("prompt_attention_mask")


def ovis_image() -> Built:
    torch.manual_seed(0)
    config = {key: value for key, value in FLUX_TRANSFORMER.items() if key != "pooled_projection_dim"}
    transformer = diffusers.OvisImageTransformer2DModel(**config | {"out_channels": 4})
    pipe = assemble(diffusers.OvisImagePipeline, transformer, kl_vae(1))
    return pipe, image_call(height=8, width=16, guidance_scale=5.0, negative_prompt=None) | two_texts()


def bria() -> Built:
    torch.manual_seed(0)
    config = {key: value for key, value in FLUX_TRANSFORMER.items() if key != "pooled_projection_dim"}
    transformer = diffusers.BriaTransformer2DModel(**config)
    pipe = assemble(
        diffusers.BriaPipeline, transformer, kl_vae(1), parts={"image_encoder": None, "feature_extractor": None}
    )
    return pipe, image_call(height=8, width=16, guidance_scale=5.0) | two_texts()


def hunyuan_dit() -> Built:
    torch.manual_seed(0)
    transformer = diffusers.HunyuanDiT2DModel(
        sample_size=16,
        num_layers=4,  # the later half has skip connections
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        in_channels=4,
        cross_attention_dim=WIDTH,
        cross_attention_dim_t5=WIDTH,
        pooled_projection_dim=16,
        hidden_size=24,
        activation_fn="gelu-approximate",
        text_len=TEXT_TOKENS,
        text_len_t5=TEXT_TOKENS,
    )
    parts = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipe = assemble(
        diffusers.HunyuanDiTPipeline, transformer, kl_vae(4), diffusers.DDPMScheduler(), text_encoders=2, parts=parts
    )
    call = image_call(height=16, width=16, guidance_scale=5.0, use_resolution_binning=False)
    call |= masked_texts("prompt_attention_mask")
    for sign in ("", "negative_"):
        call[f"{sign}prompt_embeds_2"] = embeddings()
        call[f"{sign}prompt_attention_mask_2"] = torch.ones(1, TEXT_TOKENS, dtype=torch.long)
    return pipe, call


def omnigen() -> Built:
    """Editing: the picture lies in the text; three passes of guidance in one batch, padded to one length."""
    torch.manual_seed(0)
    transformer = diffusers.OmniGenTransformer2DModel(
        in_channels=4,
        patch_size=2,
        hidden_size=32,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=32,
        num_layers=3,
        pad_token_id=0,
        vocab_size=64,
        max_position_embeddings=512,
        original_max_position_embeddings=64,
        rope_scaling={"long_factor": [1.0] * 8, "short_factor": [1.0] * 8},
        pos_embed_max_size=16,
        time_step_dim=8,
    )
    processor_omnigen.transforms = _FourTransforms  # of torchvision, without which diffusers leaves the processor out
    pipeline_omnigen.OmniGenMultiModalProcessor = processor_omnigen.OmniGenMultiModalProcessor
    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True, num_train_timesteps=1)
    pipe = diffusers.OmniGenPipeline(transformer, scheduler, kl_vae(4, blocks=4), build_tokenizer())
    call = image_call(height=32, width=64, guidance_scale=2.5, img_guidance_scale=1.6)
    prompt = "a cat puts <img><|image_1|></img> on sunglasses"
    return ready(pipe), call | {"prompt": prompt, "input_images": [picture(48, 32)], "max_input_image_size": 48}


def glm_image() -> Built:
    torch.manual_seed(0)
    transformer = diffusers.GlmImageTransformer2DModel(
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=2,
        text_embed_dim=WIDTH,
        time_embed_dim=8,
        condition_dim=4,
        prior_vq_quantizer_codebook_size=16,
    )
    vae = kl_vae(4, blocks=4)
    vae.register_to_config(latents_mean=[0.0] * 4, latents_std=[1.0] * 4)
    pipe = assemble(
        diffusers.GlmImagePipeline, transformer, vae, parts={"processor": None, "vision_language_encoder": None}
    )
    return pipe, image_call(
        height=32, width=64, guidance_scale=1.5, prior_token_ids=torch.zeros(1, 8).long()
    ) | two_texts()


def krea2() -> Built:
    """Each text token comes as the hidden states of two layers of the language model."""
    torch.manual_seed(0)
    transformer = diffusers.Krea2Transformer2DModel(
        in_channels=16,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=32,
        timestep_embed_dim=8,
        text_hidden_dim=WIDTH,
        num_text_layers=2,
        text_num_attention_heads=2,
        text_num_key_value_heads=1,
        text_intermediate_size=16,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(4, 2, 2),
    )
    parts = {"text_encoder_select_layers": (0, 1), "is_distilled": False, "patch_size": 2}
    pipe = assemble(diffusers.Krea2Pipeline, transformer, qwen_vae(), parts=parts)
    for name, weight in pipe.transformer.named_parameters():
        if "norm_q" in name or "norm_k" in name:
            weight.data -= 1.0  # its norms add one to their weights
    call = image_call(height=16, width=32, guidance_scale=4.5)
    for sign, valid in (("", TEXT_TOKENS - 2), ("negative_", TEXT_TOKENS - 5)):
        call[f"{sign}prompt_embeds"] = torch.randn(1, TEXT_TOKENS, 2, WIDTH)
        call[f"{sign}prompt_embeds_mask"] = torch.arange(TEXT_TOKENS).lt(valid).unsqueeze(0)
    return pipe, call


BUILDERS = {
    builder.__name__: builder
    for builder in (
        flux,
        flux_img2img,
        flux_inpaint,
        flux_fill,
        flux_control,
        flux_controlnet,
        flux_kontext,
        flux_kontext_inpaint,
        flux2,
        flux2_edit,
        flux2_klein,
        flux2_klein_kv,
        qwen_image,
        qwen_image_img2img,
        qwen_image_inpaint,
        qwen_image_edit,
        qwen_image_edit_inpaint,
        qwen_image_edit_plus,
        qwen_image_layered,
        sd3,
        sd3_img2img,
        sd3_inpaint,
        sd35,
        z_image,
        z_image_img2img,
        z_image_inpaint,
        chroma,
        chroma_img2img,
        lumina2,
        hidream,
        sana,
        sana_sprint,
        cogview4,
        cogview4_control,
        aura_flow,
        ovis_image,
        bria,
        hunyuan_dit,
        omnigen,
        glm_image,
        krea2,
    )
}
"""Every pipeline by name, for parametrised tests."""


def qwen_vision_language_model(vocabulary_size: int) -> Qwen2_5_VLForConditionalGeneration:
    """The text encoder of Qwen-Image, which reads the reference pictures too."""
    torch.manual_seed(0)
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    text = {
        "vocab_size": vocabulary_size,
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1000000.0},
        **heads,
    }
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDTH}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision | {"fullatt_block_indexes": [1]})
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def kl_vae(latent_channels: int, *, blocks: int = 1) -> AutoencoderKL:
    """An autoencoder that halves the sides once less than it has blocks."""
    return AutoencoderKL(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=(4,) * blocks,
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.06,
        scaling_factor=1.5,
    )


def flux2_vae(latent_channels: int) -> AutoencoderKLFlux2:
    """An autoencoder that makes 4 pixels a latent."""
    return AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(4,) * 3,
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


class _FourTransforms:
    """What OmniGen's processor uses of torchvision."""

    @staticmethod
    def Compose(steps: list[Any]) -> Any:
        return lambda image: functools.reduce(lambda made, step: step(made), steps, image)

    @staticmethod
    def Lambda(function: Any) -> Any:
        return function

    @staticmethod
    def ToTensor() -> Any:
        return lambda image: torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255

    @staticmethod
    def Normalize(mean: list[float], std: list[float], inplace: bool) -> Any:
        return lambda pixels: (pixels - mean[0]) / std[0]


def assemble(
    kind: type[DiffusionPipeline],
    transformer: torch.nn.Module,
    vae: torch.nn.Module,
    scheduler: Any = None,
    *,
    text_encoders: int = 1,
    parts: dict[str, Any] | None = None,
) -> DiffusionPipeline:
    encoders = [f"{part}{number}" for number in ("", "_2")[:text_encoders] for part in ("text_encoder", "tokenizer")]
    absent = [part for part in encoders if part in inspect.signature(kind).parameters]
    scheduler = scheduler or flow_match_euler(shift=3.0)
    pipe = kind(scheduler=scheduler, vae=vae, transformer=transformer, **dict.fromkeys(absent), **parts or {})
    return ready(pipe)


def _flux(kind: type[DiffusionPipeline], *, parts: dict[str, Any] | None = None, **config: Any) -> DiffusionPipeline:
    torch.manual_seed(0)
    transformer = diffusers.FluxTransformer2DModel(**FLUX_TRANSFORMER | config)
    return assemble(kind, transformer, kl_vae(1), text_encoders=2, parts=parts)


def _flux_call(**more: Any) -> dict[str, Any]:
    call = image_call(height=8, width=16, guidance_scale=3.5, **more)
    return call | {"prompt_embeds": embeddings(), "pooled_prompt_embeds": torch.randn(1, WIDTH)}


def _flux2(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    torch.manual_seed(0)
    config = {key: value for key, value in FLUX_TRANSFORMER.items() if key != "pooled_projection_dim"}
    config |= {"axes_dims_rope": [4, 4, 4, 4], "guidance_embeds": kind is diffusers.Flux2Pipeline}
    return assemble(kind, diffusers.Flux2Transformer2DModel(**config), flux2_vae(1))


def _flux2_call(**more: Any) -> dict[str, Any]:
    return image_call(height=16, width=32, guidance_scale=4.0, prompt_embeds=embeddings(), **more)


def _qwen(
    kind: type[DiffusionPipeline],
    *,
    parts: dict[str, Any] | None = None,
    vae: dict[str, Any] | None = None,
    **config: Any,
) -> DiffusionPipeline:
    torch.manual_seed(0)
    autoencoder = qwen_vae(**vae or {})
    return assemble(kind, diffusers.QwenImageTransformer2DModel(**QWEN_TRANSFORMER | config), autoencoder, parts=parts)


def qwen_vae(**config: Any) -> AutoencoderKLQwenImage:
    return AutoencoderKLQwenImage(
        base_dim=8,
        num_res_blocks=1,
        **{"dim_mult": [1, 2, 4], "temperal_downsample": [False, True]}
        | {"z_dim": 4, "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}
        | config,
    )


def _qwen_call(**more: Any) -> dict[str, Any]:
    return image_call(height=16, width=32, true_cfg_scale=2.0, **more) | masked_texts("prompt_embeds_mask")


def _sd3(kind: type[DiffusionPipeline], **config: Any) -> DiffusionPipeline:
    torch.manual_seed(0)
    transformer = diffusers.SD3Transformer2DModel(**SD3_TRANSFORMER | config)
    parts = dict.fromkeys(("text_encoder_3", "tokenizer_3", "image_encoder", "feature_extractor"))
    return assemble(kind, transformer, kl_vae(transformer.config.in_channels), text_encoders=2, parts=parts)


def _sd3_call(**more: Any) -> dict[str, Any]:
    pooled = {f"{sign}pooled_prompt_embeds": torch.randn(1, WIDTH) for sign in ("", "negative_")}
    return image_call(height=8, width=16, guidance_scale=5.0, **more) | two_texts() | pooled


def _z_image(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    torch.manual_seed(0)
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=3,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=WIDTH,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    return assemble(kind, transformer, kl_vae(4, blocks=2))


def _z_image_call(**more: Any) -> dict[str, Any]:
    """Texts of different length in one batch: 32 and 64 tokens after padding."""
    texts = {"prompt_embeds": [torch.randn(40, WIDTH)], "negative_prompt_embeds": [torch.randn(7, WIDTH)]}
    return image_call(height=16, width=32, guidance_scale=5.0, **more) | texts


def _chroma(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    torch.manual_seed(0)
    config = {key: value for key, value in FLUX_TRANSFORMER.items() if key != "pooled_projection_dim"}
    approximator = {"approximator_num_channels": 8, "approximator_hidden_dim": 32, "approximator_layers": 1}
    transformer = diffusers.ChromaTransformer2DModel(**config | approximator)
    return assemble(kind, transformer, kl_vae(1), parts={"image_encoder": None, "feature_extractor": None})


def _chroma_call(**more: Any) -> dict[str, Any]:
    texts = masked_texts("prompt_attention_mask")
    texts = {key: value.bool() if "mask" in key else value for key, value in texts.items()}
    return image_call(height=8, width=16, guidance_scale=4.0, **more) | texts


def _sana(kind: type[DiffusionPipeline], scheduler: Any, **config: Any) -> DiffusionPipeline:
    torch.manual_seed(0)
    transformer = diffusers.SanaTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=3,
        num_attention_heads=2,
        attention_head_dim=16,
        num_cross_attention_heads=2,
        cross_attention_head_dim=16,
        cross_attention_dim=32,
        caption_channels=WIDTH,
        sample_size=32,
        **config,
    )
    vae = AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    return assemble(kind, transformer, vae, scheduler)


def _sana_call() -> dict[str, Any]:
    return image_call(height=32, width=64, guidance_scale=4.5)


def _cogview4_transformer(in_channels: int) -> torch.nn.Module:
    return diffusers.CogView4Transformer2DModel(
        patch_size=2,
        in_channels=in_channels,
        out_channels=4,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=2,
        text_embed_dim=WIDTH,
        time_embed_dim=8,
        condition_dim=4,
        sample_size=16,
        rope_axes_dim=(8, 8),
    )


def image_call(**more: Any) -> dict[str, Any]:
    return {"num_inference_steps": 3, "output_type": "latent", **more}


def embeddings() -> Tensor:
    return torch.randn(1, TEXT_TOKENS, WIDTH)


def two_texts() -> dict[str, Tensor]:
    return {"prompt_embeds": embeddings(), "negative_prompt_embeds": embeddings()}


def masked_texts(name: str) -> dict[str, Tensor]:
    """Texts with padding at their end, less of it in the prompt than in the negative one."""
    masks = {
        f"{sign}{name}": (torch.arange(TEXT_TOKENS) < valid).long().unsqueeze(0)
        for sign, valid in (("", TEXT_TOKENS - 2), ("negative_", TEXT_TOKENS - 5))
    }
    return two_texts() | masks


def reference_picture() -> Image.Image:
    return picture(64, 64, (20, 80, 160))


def mask_image(width: int, height: int) -> Image.Image:
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, (0, 0, width // 2, height))
    return mask
