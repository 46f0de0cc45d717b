"""Stage 1: the autoencoder learns to reproduce clips of scenes, first in single frames, then in motion, then whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from jaxtyping import Float
from torch import Tensor, nn

from alignvid.miniature.architecture import LATENT_CHANNELS, PIXEL_PATCH, build_vae
from alignvid.miniature.drawing import FRAMES, HEIGHT, WIDTH, render
from alignvid.miniature.scenes import TRAIN, sample_scene
from alignvid.miniature.training.loop import Losses, Plan, train

LATENT_NOISE = 0.05  # a decoder that has met a little noise forgives the small errors of generated latents
SIZE_WEIGHT = 1e-4  # on the squared latents, so that they cannot outgrow that noise
SECOND_CONVOLUTION_GAIN = 0.3  # residual branches begin small
CONDITION_SHARE = 0.2  # clips that are grey after their first frame: the pipeline encodes its reference image so
STATISTICS_CLIPS = 256

Clips = Float[Tensor, "batch 3 frames height width"]
Latents = Float[Tensor, "batch channels latent_frames latent_height latent_width"]


class Crops(NamedTuple):
    """What a batch is made of, until a step."""

    until: int
    batch: int
    frames: int
    pixels: int


# Convolutions learn from small crops: 32×32 pixels cost a quarter. Whole pictures come last, for the attention layer.
CURRICULUM = (Crops(1500, 16, 1, 32), Crops(3000, 6, FRAMES, 32), Crops(3100, 4, FRAMES, 64))
# The decoder alone goes on, on other clips, while the transformer already learns the latents of the frozen encoder.
DECODER_CURRICULUM = (Crops(600, 8, FRAMES, 32), Crops(900, 4, FRAMES, 64))
DECODER_PLAN = Plan("decoder", steps=900, learning_rate=1e-3, final_share=0.02)
PLAN = Plan("vae", steps=3100, learning_rate=1e-3, final_share=0.02)


def train_vae(folder: Path, seed: int) -> AutoencoderKLWan:
    """A trained autoencoder with measured latent statistics."""
    torch.manual_seed(seed)
    vae = build_vae().train()
    initialise(vae)

    def losses_at(step: int) -> Losses:
        return reconstruction_losses(vae, batch_at(CURRICULUM, [seed, step]), step + seed)

    train(PLAN, vae, losses_at, folder=folder)
    return with_statistics(vae.eval(), seed)


def train_decoder(vae: AutoencoderKLWan, folder: Path, seed: int) -> AutoencoderKLWan:
    """The same autoencoder with a better decoder; its latents stay as they are."""
    vae.requires_grad_(False)
    decoder = nn.ModuleDict({"post_quant_conv": vae.post_quant_conv, "decoder": vae.decoder}).requires_grad_(True)

    def losses_at(step: int) -> Losses:
        return reconstruction_losses(vae, batch_at(DECODER_CURRICULUM, [seed, 1, step]), step + seed)

    train(DECODER_PLAN, decoder, losses_at, folder=folder)
    return vae.eval()


def batch_at(curriculum: tuple[Crops, ...], seeds: list[int]) -> Clips:
    """The clips of one step, the last of the seeds, in -1..1."""
    crops = next(crops for crops in curriculum if seeds[-1] < crops.until)
    rng = np.random.default_rng(seeds)
    return torch.stack([_crop(rng, crops) for _ in range(crops.batch)])


def _crop(rng: np.random.Generator, crops: Crops) -> Float[Tensor, "3 frames height width"]:
    clip = to_tensor(render(sample_scene(int(rng.integers(TRAIN.start, TRAIN.stop))), shown=rng.random() < 0.8))
    if crops.frames == 1:
        frame = int(rng.integers(FRAMES))
        clip = clip[:, frame : frame + 1]
    elif rng.random() < CONDITION_SHARE:
        clip = condition_clip(clip)
    top, left = rng.integers(0, HEIGHT - crops.pixels + 1), rng.integers(0, WIDTH - crops.pixels + 1)
    return clip[..., top : top + crops.pixels, left : left + crops.pixels]


def to_tensor(video: np.ndarray) -> Float[Tensor, "3 frames height width"]:
    """A rendered clip as the autoencoder takes it."""
    return torch.from_numpy(video).permute(3, 0, 1, 2).float() / 127.5 - 1


def condition_clip(clip: Float[Tensor, "3 frames height width"]) -> Float[Tensor, "3 frames height width"]:
    """The first frame, then mid grey, as WanImageToVideoPipeline encodes its reference image."""
    return torch.cat([clip[:, :1], torch.zeros_like(clip[:, 1:])], dim=1)


def reconstruction_losses(vae: AutoencoderKLWan, clips: Clips, seed: int) -> Losses:
    """Squared error of the reconstruction, and of the latents. The pipeline reads the mode, so nothing is sampled."""
    latents = latents_of(vae, clips)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
    error = (decode_unclamped(vae, latents + LATENT_NOISE * noise) - clips).square().mean()
    loss = error + SIZE_WEIGHT * latents.square().mean()
    return {"loss": loss, "psnr": 10 * torch.log10(4 / error.detach()), "spread": latents.detach().std()}


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
def with_statistics(vae: AutoencoderKLWan, seed: int) -> AutoencoderKLWan:
    """The same autoencoder, with the mean and spread of the latents of training clips in its config."""
    rng = np.random.default_rng([seed, 1])
    seeds = rng.integers(TRAIN.start, TRAIN.stop, STATISTICS_CLIPS)
    clips = torch.stack([to_tensor(render(sample_scene(int(scene_seed)))) for scene_seed in seeds])
    latents = torch.cat([latents_of(vae, part) for part in clips.split(32)])
    channels = latents.transpose(0, 1).reshape(LATENT_CHANNELS, -1)
    vae.register_to_config(latents_mean=channels.mean(1).tolist(), latents_std=channels.std(1).tolist())
    return vae
