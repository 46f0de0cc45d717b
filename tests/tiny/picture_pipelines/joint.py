"""One kind of block, with text and picture in one softmax: PRX, JoyImage, Qwen-Image 2.1, Fibo 2 and others."""

from __future__ import annotations

from typing import Any

import diffusers
import torch

from image_pipelines import (
    TEXT_TOKENS,
    WIDTH,
    assemble,
    flux2_vae,
    image_call,
    kl_vae,
    masked_texts,
    qwen_vae,
    reference_picture,
    two_texts,
)
from model_folders import build_tokenizer
from pipelines import WAN_VAE, Built, awoken, flow_match_euler, picture, ready


def prx() -> Built:
    """The text has keys in every block, and no queries."""
    pipe = assemble(diffusers.PRXPipeline, _prx_transformer(4), kl_vae(4, blocks=2))
    return pipe, image_call(height=16, width=32, guidance_scale=4.0, use_resolution_binning=False) | _prx_texts()


def prx_pixel() -> Built:
    """Pixels in the place of latents."""
    torch.manual_seed(0)
    pipe = diffusers.PRXPixelPipeline(_prx_transformer(3), flow_match_euler(shift=3.0), None, None)
    call = image_call(height=8, width=16, guidance_scale=4.0, use_resolution_binning=False, output_type="pt")
    return ready(pipe), call | _prx_texts()


def joyimage_edit() -> Built:
    """Editing: the picture to be edited is an item behind the generated one, once the transformer has turned them."""
    transformer = diffusers.JoyImageEditTransformer3DModel(**_JOY)
    pipe = _joy(diffusers.JoyImageEditPipeline, transformer)
    pipe.vae_image_processor.get_default_height_width = lambda *_: (32, 64)  # it brings any picture to a megapixel
    return pipe, image_call(image=reference_picture(), guidance_scale=4.0) | masked_texts("prompt_embeds_mask")


def joyimage_edit_plus() -> Built:
    """Editing from two pictures, both passes in one batch."""
    pipe = _joy(diffusers.JoyImageEditPlusPipeline, diffusers.JoyImageEditPlusTransformer3DModel(**_JOY))
    pipe.image_processor.get_default_height_width = lambda *_: (32, 32)  # it brings any picture to a megapixel
    pipe.encode_prompt_multiple_images = _embedded  # for given embeddings, it fails on the prompt that is not there
    call = image_call(images=[reference_picture(), picture(64, 48)], height=32, width=64, guidance_scale=4.0)
    return pipe, call | {"prompt": "a cat", "negative_prompt": "a red circle"}


def ernie_image() -> Built:
    """Texts of different length in one batch, padded to the longer one."""
    torch.manual_seed(0)
    transformer = diffusers.ErnieImageTransformer2DModel(
        hidden_size=32,
        num_attention_heads=2,
        num_layers=3,
        ffn_hidden_size=32,
        in_channels=4,
        out_channels=4,
        patch_size=1,
        text_in_dim=WIDTH,
        rope_axes_dim=(8, 4, 4),
    )
    pipe = assemble(diffusers.ErnieImagePipeline, awoken(transformer), kl_vae(4, blocks=2))
    pipe.vae_scale_factor = 4
    texts = {"prompt_embeds": [torch.randn(TEXT_TOKENS, WIDTH)], "negative_prompt_embeds": [torch.randn(7, WIDTH)]}
    return pipe, image_call(height=16, width=32, guidance_scale=4.0) | texts


def nucleus_image() -> Built:
    """Experts in the middle blocks; the text has keys in every block, and no queries."""
    torch.manual_seed(0)
    transformer = diffusers.NucleusMoEImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=5,
        attention_head_dim=16,
        num_attention_heads=2,
        num_key_value_heads=1,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(8, 4, 4),
        num_experts=2,
        moe_intermediate_dim=16,
        capacity_factors=[2.0] * 5,
        mlp_ratio=8.0,  # else the dense layers round down to nothing
    )
    for name, weight in transformer.named_parameters():
        if "experts" in name:
            torch.nn.init.normal_(weight, std=0.1)  # else whatever lies in memory
    pipe = assemble(diffusers.NucleusMoEImagePipeline, transformer, qwen_vae(), parts={"processor": None})
    return pipe, image_call(height=16, width=32, guidance_scale=4.0) | masked_texts("prompt_embeds_mask")


def qwen_image21() -> Built:
    """Editing, without the cache that keeps the keys of prompt and reference."""
    torch.manual_seed(0)
    transformer = diffusers.QwenImage21Transformer2DModel(
        in_channels=16,
        out_channels=16,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        context_in_dim=WIDTH,
        axes_dims_rope=(8, 4, 4),
    )
    latents = {"z_dim": 16, "latents_mean": [0.0] * 16, "latents_std": [1.0] * 16}
    vae = qwen_vae(input_channels=4, dim_mult=[1] * 5, temperal_downsample=[False] * 4, **latents)
    pipe = assemble(diffusers.QwenImage21Pipeline, transformer, vae, parts={"processor": _Processor()})
    pipe._get_qwen_prompt_embeds = _embedded_with_picture
    call = image_call(height=64, width=128, true_cfg_scale=2.0, use_kv_cache=False, output_resolution=64)
    return pipe, call | {"image": reference_picture(), "prompt": "a cat", "negative_prompt": "a red circle"}


def bria_fibo2() -> Built:
    """A gist of the text in all blocks, the whole text in one of them."""
    torch.manual_seed(0)
    transformer = diffusers.BriaFibo2Transformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=3,
        n_refiner_layers=1,
        n_heads=2,
        cap_feat_dim=WIDTH,
        injection_layer_ids=(1, 2),
        perceiver_num_layers=1,
        min_num_gist_tokens=8,
        max_num_gist_tokens=16,
        gist_step=4,
        gist_min_text_len=8,
        gist_max_text_len=16,
        axes_dims=(8, 4, 4),
        axes_lens=(64, 32, 32),
    )
    pipe = assemble(diffusers.BriaFibo2Pipeline, awoken(transformer), flux2_vae(4), parts={"processor": None})
    texts = {f"{sign}prompt_embeds": torch.randn(1, 3, TEXT_TOKENS, WIDTH) for sign in ("", "negative_")}
    return pipe, image_call(height=16, width=32, guidance_scale=5.0) | texts


def bria_fibo2_edit() -> Built:
    """The picture to be edited behind the generated one."""
    pipe, call = bria_fibo2()
    return pipe, call | {"image": reference_picture()}


def cogview3() -> Built:
    torch.manual_seed(0)
    transformer = diffusers.CogView3PlusTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=2,
        text_embed_dim=WIDTH,
        time_embed_dim=8,
        condition_dim=4,
        pos_embed_max_size=16,
        sample_size=16,
    )
    scheduler = diffusers.CogVideoXDDIMScheduler()
    pipe = assemble(diffusers.CogView3PlusPipeline, transformer, kl_vae(4, blocks=2), scheduler)
    return pipe, image_call(height=16, width=32, guidance_scale=4.0) | two_texts()


BUILDERS = (
    prx,
    prx_pixel,
    joyimage_edit,
    joyimage_edit_plus,
    ernie_image,
    nucleus_image,
    qwen_image21,
    bria_fibo2,
    bria_fibo2_edit,
    cogview3,
)

_JOY = {
    "in_channels": 16,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "text_dim": WIDTH,
    "num_layers": 3,
    "rope_dim_list": [8, 4, 4],
}


def _prx_transformer(channels: int) -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_heads": 2, "depth": 3, "axes_dim": [8, 8]}
    return awoken(diffusers.PRXTransformer2DModel(in_channels=channels, context_in_dim=WIDTH, **sizes))


def _prx_texts() -> dict[str, Any]:
    return {
        key: value.bool() if "mask" in key else value for key, value in masked_texts("prompt_attention_mask").items()
    }


def _embedded(prompt: list[str], **_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A text and its mask, in the place of a language model that reads prompt and pictures."""
    seed = torch.Generator().manual_seed(sum(map(ord, prompt[0])))
    valid = TEXT_TOKENS - len(prompt[0]) % 5
    return torch.randn(1, TEXT_TOKENS, WIDTH, generator=seed), torch.arange(TEXT_TOKENS).lt(valid).long().unsqueeze(0)


def _joy(kind: type, transformer: Any) -> Any:
    torch.manual_seed(0)
    return assemble(kind, transformer, diffusers.AutoencoderKLWan(**WAN_VAE), parts={"processor": None})


class _Processor:
    """What the pipeline asks of its processor before it is given a prompt."""

    def __init__(self) -> None:
        self.tokenizer = build_tokenizer()

    def apply_chat_template(self, message: Any, **_: Any) -> list[list[int]]:
        return [[0]]


def _embedded_with_picture(prompt: list[str], *_: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A text and its mask, and where in it the slots of a picture lie: 4 tokens in each of 4."""
    text, mask = _embedded(prompt)
    slots = torch.zeros(1, TEXT_TOKENS, dtype=torch.bool)
    slots[:, 1:5] = True
    return text, mask, slots
