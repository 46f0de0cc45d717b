"""Stage 3: training scenes encoded once, since the autoencoder costs more than a training step of the transformer."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import AutoencoderKLWan
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPVisionModel

from alignvid.miniature.drawing import first_frame, render
from alignvid.miniature.scenes import Scene, sample_scene
from alignvid.miniature.training.train_towers import pixel_values
from alignvid.miniature.training.train_vae import Clips, Latents, condition_clip, latents_of, to_tensor

SHARD_SCENES = 1000
ENCODE_BATCH = 20
TOWER_BATCH = 100


class EncodedScenes(NamedTuple):
    """What the transformer needs of each scene, normalised, in half precision."""

    shown: Latents
    """The clip in which the edit happens."""
    still: Latents
    """The clip in which nothing happens."""
    condition: Latents
    """The reference image, followed by grey."""
    image: Float[Tensor, "batch keys width"]
    """The image tower's tokens."""

    def at(self, indices: Tensor) -> EncodedScenes:
        """Some of the scenes, in single precision."""
        return EncodedScenes(*(tensor[indices].float() for tensor in self))


def encode_shard(folder: Path, shard: int, vae: AutoencoderKLWan) -> None:
    """Encode the clips of one shard of training scenes into a file, unless it is there."""
    path = folder / f"latents-{shard:03d}.safetensors"
    if path.exists():
        return
    seeds = range(shard * SHARD_SCENES, (shard + 1) * SHARD_SCENES)
    batches = [seeds[first : first + ENCODE_BATCH] for first in range(0, SHARD_SCENES, ENCODE_BATCH)]
    parts = [
        encode_clips([sample_scene(seed) for seed in batch], vae)
        for batch in tqdm(batches, desc=path.stem, mininterval=5)
    ]
    fields = {name: torch.cat([part[name] for part in parts]).half() for name in parts[0]}
    save_file(fields, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def load_shards(folder: Path, image_encoder: CLIPVisionModel) -> EncodedScenes:
    """All the scenes encoded so far; scene i is the one of seed i. The image tower is quick, and runs here."""
    shards = [load_file(path) for path in sorted(folder.glob("latents-*.safetensors"))]
    clips = {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}
    scenes = [sample_scene(seed) for seed in range(len(clips["shown"]))]
    return EncodedScenes(**clips, image=image_tokens(scenes, image_encoder).half())


def encode(scenes: list[Scene], vae: AutoencoderKLWan, image_encoder: CLIPVisionModel) -> EncodedScenes:
    """All that the transformer needs of a few scenes."""
    return EncodedScenes(**encode_clips(scenes, vae), image=image_tokens(scenes, image_encoder))


@torch.no_grad()
def encode_clips(scenes: list[Scene], vae: AutoencoderKLWan) -> dict[str, Latents]:
    """The reference image as the pipeline encodes it, and the two possible clips alike."""
    shown = torch.stack([to_tensor(render(scene)) for scene in scenes])
    still = shown[:, :, :1].expand_as(shown).contiguous()
    condition = torch.stack([condition_clip(clip) for clip in shown])
    clips = {"shown": shown, "still": still, "condition": condition}
    return {name: normalised(vae, clip) for name, clip in clips.items()}


@torch.no_grad()
def image_tokens(scenes: list[Scene], image_encoder: CLIPVisionModel) -> Float[Tensor, "batch keys width"]:
    """What the pipeline gets from the image tower for each reference image: its last but one layer."""
    batches = [scenes[first : first + TOWER_BATCH] for first in range(0, len(scenes), TOWER_BATCH)]
    pixels = (pixel_values([first_frame(scene) for scene in batch]) for batch in batches)
    return torch.cat([image_encoder(batch, output_hidden_states=True).hidden_states[-2] for batch in pixels])


def normalised(vae: AutoencoderKLWan, clips: Clips) -> Latents:
    """The latents of clips, with mean 0 and spread 1 per channel."""
    mean = torch.tensor(vae.config["latents_mean"]).view(1, -1, 1, 1, 1)
    spread = torch.tensor(vae.config["latents_std"]).view(1, -1, 1, 1, 1)
    return (latents_of(vae, clips) - mean) / spread
