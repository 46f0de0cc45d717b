"""Self-attention within the picture, cross-attention to the text: PixArt and Lumina-Next."""

from __future__ import annotations

from typing import Any

import diffusers
import torch

from image_pipelines import WIDTH, assemble, image_call, kl_vae, masked_texts
from pipelines import Built, unipc


def pixart_alpha() -> Built:
    return _pixart(diffusers.PixArtAlphaPipeline), _pixart_call()


def pixart_sigma() -> Built:
    return _pixart(diffusers.PixArtSigmaPipeline), _pixart_call()


def lumina_next() -> Built:
    torch.manual_seed(0)
    transformer = diffusers.LuminaNextDiT2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        hidden_size=32,
        num_layers=3,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        norm_eps=1e-5,
        learn_sigma=True,
        qk_norm=True,
        cross_attention_dim=WIDTH,
    )
    for layer in transformer.layers:
        torch.nn.init.ones_(layer.gate)  # of cross-attention; it begins at zero
    pipe = assemble(diffusers.LuminaPipeline, transformer, kl_vae(4, blocks=2))
    return pipe, image_call(height=32, width=64, guidance_scale=4.0) | masked_texts("prompt_attention_mask")


BUILDERS = (pixart_alpha, pixart_sigma, lumina_next)


def _pixart(kind: type) -> Any:
    torch.manual_seed(0)
    transformer = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        cross_attention_dim=16,
        caption_channels=WIDTH,
        num_layers=3,
        sample_size=16,
        use_additional_conditions=False,
    )
    return assemble(kind, transformer, kl_vae(4, blocks=2), unipc(3.0))


def _pixart_call() -> dict[str, Any]:
    call = image_call(height=16, width=32, guidance_scale=4.5, negative_prompt=None, use_resolution_binning=False)
    return call | masked_texts("prompt_attention_mask")
