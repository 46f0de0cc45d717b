"""Stage 1: the autoencoder learns to reproduce single frames and clips, above all the rims of shapes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from alignvid.miniature.architecture import build_vae
from alignvid.miniature.drawing import FRAMES, render
from alignvid.miniature.scenes import DEVELOPMENT, evaluation_scenes
from alignvid.miniature.training.clips import (
    Clips,
    decode_unclamped,
    initialise,
    latents_of,
    to_tensor,
    with_statistics,
)
from alignvid.miniature.training.dense import Window, batch_of
from alignvid.miniature.training.loop import Losses, Plan, device_of, placed, train

PLAN = Plan("vae", steps=5000, learning_rate=4.5e-4, final_share=0.02)
DECODER_PLAN = Plan("decoder", steps=1500, learning_rate=4e-4, final_share=0.02)
"""The decoder alone goes on when the transformer has learned the latents of the encoder."""
WINDOWS = (Window(16, 1, 48), Window(4, FRAMES, 40))
"""In every step: single frames for variety, clips for motion."""
REPORT_EVERY_STEPS = 250
REPORT_CLIPS = 16
AVERAGE_RATE = 0.02
LATENT_NOISE = 0.05  # a decoder that has met a little noise forgives the small errors of generated latents
SIZE_WEIGHT = 1e-4  # on the squared latents, so that they cannot outgrow that noise
EDGE_WEIGHT = 3.0
EDGE_CONTRAST = 0.25  # of the range of 2; backgrounds stay below it, rims of shapes are above


def train_vae(folder: Path, seed: int, start: Path | None, device: str) -> None:
    """Write a trained autoencoder to `folder`/vae, begun with that of a pipeline folder if one is given."""
    torch.manual_seed(seed)
    vae = build_vae() if start is None else AutoencoderKLWan.from_pretrained(start / "vae", torch_dtype=torch.float32)
    if start is None:
        initialise(vae)
    _train(PLAN, vae, placed(vae, device), folder, seed)
    with_statistics(vae.eval().cpu(), seed).save_pretrained(folder / "vae")


def train_decoder(folder: Path, seed: int, device: str) -> None:
    """Write the autoencoder of `folder`/vae with a better decoder to `folder`/decoder; its latents stay as they are."""
    vae = AutoencoderKLWan.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    vae.requires_grad_(False)
    decoder = nn.ModuleDict({"post_quant_conv": vae.post_quant_conv, "decoder": vae.decoder}).requires_grad_(True)
    _train(DECODER_PLAN, decoder.to(device), placed(vae, device), folder, seed)
    vae.eval().save_pretrained(folder / "decoder")


def _train(plan: Plan, trained: nn.Module, vae: AutoencoderKLWan, folder: Path, seed: int) -> None:
    vae.train()
    average, pictures = Average(vae), development_clips(REPORT_CLIPS)

    def losses_at(step: int) -> Losses:
        average.update()
        rng = np.random.default_rng([seed, *plan.name.encode(), step])
        frames, clips = (weighted_losses(vae, batch_of(window, rng), step) for window in WINDOWS)
        return clips | {"loss": clips["loss"] + frames["loss"], "psnr_frames": frames["psnr"]}

    def report(step: int) -> dict[str, float]:
        copies = reconstructed(average.vae, pictures)
        save_sheet(pictures, copies, folder / f"sheet-{plan.name}-{step:05d}.png")
        return quality(pictures, copies)

    with quick_convolutions():
        train(plan, trained, losses_at, folder=folder, report=report, report_every=REPORT_EVERY_STEPS)


class Average:
    """A running average of the weights, which is steadier than the weights are; it begins anew where a run resumes."""

    def __init__(self, vae: AutoencoderKLWan) -> None:
        self.source, self.vae = vae, copy.deepcopy(vae).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self) -> None:
        """Move a small part of the way to the weights as they are."""
        for mean, weight in zip(self.vae.parameters(), self.source.parameters(), strict=True):
            mean.lerp_(weight, AVERAGE_RATE)


def save_sheet(clips: Clips, copies: Clips, path: Path) -> None:
    """Frames 0, 3 and 8 of each clip, enlarged, above its copy."""
    rows = [torch.cat([part[:, :, frame] for frame in (0, 3, 8)], 3) for part in (clips, copies)]
    pairs = torch.cat(rows, 2)  # -> (clips, 3, 2 * height, 3 * width)
    columns = [torch.cat(list(pairs[first::4]), 1) for first in range(4)]
    sheet = ((torch.cat(columns, 2).clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(sheet)
    picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.NEAREST).save(path)


@contextmanager
def quick_convolutions() -> Iterator[None]:
    """Within it, causal convolutions of single frames without a past are done in two dimensions: the same, sooner."""
    usual = WanCausalConv3d.forward

    def forward(self: WanCausalConv3d, x: Tensor, cache_x: Tensor | None = None) -> Tensor:
        if x.shape[2] == 1 and cache_x is None and self.kernel_size == (3, 3, 3):
            return F.conv2d(x[:, :, 0], self.weight[:, :, -1], self.bias, padding=1).unsqueeze(2)
        return usual(self, x, cache_x)

    WanCausalConv3d.forward = forward
    try:
        yield
    finally:
        WanCausalConv3d.forward = usual


def edges(clips: Clips) -> Float[Tensor, "batch 1 frames height width"]:
    """1 where a pixel and its eight neighbours differ by more than backgrounds do, else 0."""
    frames = clips.transpose(1, 2).flatten(0, 1)
    spread = F.max_pool2d(frames, 3, 1, 1) + F.max_pool2d(-frames, 3, 1, 1)
    rims = (spread.amax(1, keepdim=True) > EDGE_CONTRAST).float()
    return rims.unflatten(0, (len(clips), -1)).transpose(1, 2)


def weighted_losses(vae: AutoencoderKLWan, clips: Clips, seed: int) -> Losses:
    """Root mean square error of each clip, rims of shapes counted more, and the size of the latents.

    Of each clip, since squared errors of a few hard clips would otherwise drown the rest.
    """
    clips = clips.to(device_of(vae))
    latents = latents_of(vae, clips)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed)).to(latents.device)
    error = (decode_unclamped(vae, latents + LATENT_NOISE * noise) - clips).square()
    weight = 1 + EDGE_WEIGHT * edges(clips)
    by_clip = (error * weight).sum((1, 2, 3, 4)) / (3 * weight.sum((1, 2, 3, 4)))
    loss = by_clip.sqrt().mean() + SIZE_WEIGHT * latents.square().mean()
    return {"loss": loss, "psnr": 10 * torch.log10(4 / error.detach().mean()), "spread": latents.detach().std()}


def development_clips(count: int) -> Clips:
    """Clips of the first development scenes, with their edits."""
    return torch.stack([to_tensor(render(scene)) for scene in evaluation_scenes(DEVELOPMENT, count)])


@torch.no_grad()
def reconstructed(vae: AutoencoderKLWan, clips: Clips) -> Clips:
    """What the pipeline would show of these clips."""
    device = device_of(vae)
    return torch.cat([vae.decode(latents_of(vae, clip[None].to(device)), return_dict=False)[0].cpu() for clip in clips])


def quality(clips: Clips, copies: Clips) -> dict[str, float]:
    """Peak signal to noise, in decibels: of all pixels, of the first frames, of rims, and the worst clip's."""
    error = (copies.clamp(-1, 1) - clips).square()
    rims = edges(clips).expand_as(error)
    parts = {
        "all": error.mean(),
        "first": error[:, :, 0].mean(),
        "rims": (error * rims).sum() / rims.sum(),
        "worst": error.mean((1, 2, 3, 4)).max(),
    }
    return {f"db_{name}": round(float(10 * torch.log10(4 / part)), 2) for name, part in parts.items()}
