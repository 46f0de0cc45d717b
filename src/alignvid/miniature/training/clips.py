"""Clips as the autoencoder takes them, and what it makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from jaxtyping import Float
from torch import Tensor, nn

from alignvid.miniature.architecture import LATENT_CHANNELS, PIXEL_PATCH
from alignvid.miniature.drawing import render
from alignvid.miniature.scenes import TRAIN, sample_scene

SECOND_CONVOLUTION_GAIN = 0.3  # residual branches begin small
STATISTICS_CLIPS = 256

Clips = Float[Tensor, "batch 3 frames height width"]
Latents = Float[Tensor, "batch channels latent_frames latent_height latent_width"]


def to_tensor(video: np.ndarray) -> Float[Tensor, "3 frames height width"]:
    """A rendered clip as the autoencoder takes it."""
    return torch.from_numpy(video).permute(3, 0, 1, 2).float() / 127.5 - 1


def condition_clip(clip: Float[Tensor, "3 frames height width"]) -> Float[Tensor, "3 frames height width"]:
    """The first frame, then mid grey, as WanImageToVideoPipeline encodes its reference image."""
    return torch.cat([clip[:, :1], torch.zeros_like(clip[:, 1:])], dim=1)


def latents_of(vae: AutoencoderKLWan, clips: Clips) -> Latents:
    """The mode of what the encoder sees in clips, which is what the pipeline takes, too."""
    encoded: Any = vae.encode(clips)
    return encoded.latent_dist.mode()


def decode_unclamped(vae: AutoencoderKLWan, latents: Latents) -> Clips:
    """`vae.decode` without its final clamp, beyond which no gradient flows."""
    vae.clear_cache()
    hidden, frames = vae.post_quant_conv(latents), []
    for index in range(latents.shape[2]):
        vae._conv_idx = [0]
        chunk = hidden[:, :, index : index + 1]
        frames.append(vae.decoder(chunk, feat_cache=vae._feat_map, feat_idx=vae._conv_idx, first_chunk=index == 0))
    vae.clear_cache()
    return unpatchify(torch.cat(frames, dim=2), patch_size=PIXEL_PATCH)


@torch.no_grad()
def initialise(vae: AutoencoderKLWan) -> None:
    """Begin as an autoencoder of single frames: only the newest frame of each causal convolution has weight."""
    for name, module in vae.named_modules():
        if not isinstance(module, nn.Conv2d | nn.Conv3d):
            continue
        newest = module.weight[:, :, -1] if isinstance(module, nn.Conv3d) else module.weight
        if isinstance(module, nn.Conv3d):
            module.weight.zero_()
        nn.init.kaiming_normal_(newest, nonlinearity="linear")
        newest.mul_(SECOND_CONVOLUTION_GAIN if name.endswith("conv2") else 1.0)
        if module.bias is not None:
            module.bias.zero_()


@torch.no_grad()
def with_statistics(vae: AutoencoderKLWan, seed: int) -> AutoencoderKLWan:
    """The same autoencoder, with the mean and spread of the latents of training clips in its config."""
    rng = np.random.default_rng([seed, 1])
    seeds = rng.integers(TRAIN.start, TRAIN.stop, STATISTICS_CLIPS)
    clips = torch.stack([to_tensor(render(sample_scene(int(scene_seed)))) for scene_seed in seeds])
    latents = torch.cat([latents_of(vae, part) for part in clips.split(32)])
    channels = latents.transpose(0, 1).reshape(LATENT_CHANNELS, -1)
    vae.register_to_config(latents_mean=channels.mean(1).tolist(), latents_std=channels.std(1).tolist())
    return vae
