"""Stage 3: training scenes encoded once, since the autoencoder costs more than a training step of the transformer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from jaxtyping import Float
from PIL import Image, ImageFilter
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPVisionModel

from alignvid.miniature.drawing import Video, first_frame, render
from alignvid.miniature.scenes import EDIT_KINDS, Scene, ShapeKind, sample_scene
from alignvid.miniature.training.clips import Clips, Latents, condition_clip, latents_of, to_tensor
from alignvid.miniature.training.loop import device_of
from alignvid.miniature.training.train_towers import pixel_values

SHARD_PICTURES = 100
ENCODE_SCENES = 20
ENCODE_BATCH = 4  # pictures, each with the clips of all five kinds of edit
TOWER_BATCH = 100
BLUR_PIXELS = (0.6, 3.0)
"""Spread of the Gaussian that some reference images are blurred with."""


class EncodedScenes(NamedTuple):
    """What the transformer needs of each scene, normalised, in half precision.

    Scene i is the edit of kind i mod 5 in picture i // 5: one picture, with five texts to read.
    """

    shown: Latents
    """The clip in which the edit happens; of each scene."""
    rival: Latents
    """The same clip with the edited shape of another kind; the same as `shown` for a deletion."""
    still: Latents
    """The clip in which nothing happens; this and what follows, of each picture."""
    condition: Latents
    """The reference image, followed by grey."""
    soft: Latents
    """The same of the reference image blurred."""
    image: Float[Tensor, "pictures keys width"]
    """The image tower's tokens."""
    soft_image: Float[Tensor, "pictures keys width"]
    """The same of the reference image blurred."""

    def at(self, indices: Tensor) -> EncodedScenes:
        """Some of the scenes, in single precision, each with its own picture."""
        pictures = indices // len(EDIT_KINDS)
        of_scene, of_picture = self[:2], self[2:]
        return EncodedScenes(*(t[indices].float() for t in of_scene), *(t[pictures].float() for t in of_picture))


def scene_number(index: int) -> Scene:
    """The scene that an index of `EncodedScenes` stands for."""
    picture, kind = divmod(index, len(EDIT_KINDS))
    return sample_scene(picture, edit_kind=EDIT_KINDS[kind])


def of_another_kind(scene: Scene) -> Scene:
    """The scene whose edited shape is a circle instead of a square or triangle, or a square instead of a circle."""
    edit = scene.edit
    if edit.result is None:
        return scene
    kind: ShapeKind = "square" if edit.result.kind == "circle" else "circle"
    shapes = tuple(replace(s, kind=kind) if index == edit.target else s for index, s in enumerate(scene.shapes))
    return replace(scene, shapes=shapes, edit=replace(edit, result=replace(edit.result, kind=kind)))


def blurred_reference(scene: Scene, seed: int) -> Video:
    """The reference image after a Gaussian whose spread the seed decides."""
    spread = float(np.random.default_rng(seed).uniform(*BLUR_PIXELS))
    return np.array(Image.fromarray(first_frame(scene)).filter(ImageFilter.GaussianBlur(spread)))


def encode_shard(folder: Path, shard: int, vae: AutoencoderKLWan) -> None:
    """Encode the clips of one shard of training pictures into a file, unless it is there."""
    path = folder / f"latents-{shard:03d}.safetensors"
    if path.exists():
        return
    pictures = range(shard * SHARD_PICTURES, (shard + 1) * SHARD_PICTURES)
    batches = [pictures[first : first + ENCODE_BATCH] for first in range(0, SHARD_PICTURES, ENCODE_BATCH)]
    parts = [encode_pictures(batch, vae) for batch in tqdm(batches, desc=path.stem, mininterval=5)]
    fields = {name: torch.cat([part[name] for part in parts]).half() for name in parts[0]}
    save_file(fields, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def encode_rivals(folder: Path, shard: int, vae: AutoencoderKLWan) -> None:
    """Encode the other kinds of shape of one shard's scenes into a file, unless it is there."""
    path = folder / f"rivals-{shard:03d}.safetensors"
    if path.exists():
        return
    first = shard * SHARD_PICTURES * len(EDIT_KINDS)
    scenes = [of_another_kind(scene_number(first + n)) for n in range(SHARD_PICTURES * len(EDIT_KINDS))]
    batches = [scenes[n : n + ENCODE_SCENES] for n in range(0, len(scenes), ENCODE_SCENES)]
    parts = [encode_shown(batch, vae) for batch in tqdm(batches, desc=path.stem, mininterval=5)]
    save_file({"rival": torch.cat(parts).half()}, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def load_shards(folder: Path, image_encoder: CLIPVisionModel) -> EncodedScenes:
    """All the pictures encoded so far. The image tower is quick, and runs here."""
    paths = sorted(folder.glob("latents-*.safetensors"))
    rivals = [path.with_name(path.name.replace("latents", "rivals")) for path in paths]
    shards = [load_file(path) | load_file(rival) for path, rival in zip(paths, rivals, strict=True)]
    clips = {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}
    scenes = [sample_scene(picture) for picture in range(len(clips["still"]))]
    sharp, soft = (first_frame(scene) for scene in scenes), (blurred_reference(s, n) for n, s in enumerate(scenes))
    return EncodedScenes(
        **clips,
        image=image_tokens(list(sharp), image_encoder).half(),
        soft_image=image_tokens(list(soft), image_encoder).half(),
    )


def encode(scenes: list[Scene], vae: AutoencoderKLWan, image_encoder: CLIPVisionModel) -> EncodedScenes:
    """All that the transformer needs of a few scenes, each with a picture of its own; none is blurred."""
    fields = encode_clips(scenes, vae)
    image = image_tokens([first_frame(scene) for scene in scenes], image_encoder)
    return EncodedScenes(**fields, soft=fields["condition"], image=image, soft_image=image)


@torch.no_grad()
def encode_clips(scenes: list[Scene], vae: AutoencoderKLWan) -> dict[str, Latents]:
    """The reference image as the pipeline encodes it, and the two possible clips alike."""
    shown = torch.stack([to_tensor(render(scene)) for scene in scenes])
    still = shown[:, :, :1].expand_as(shown).contiguous()
    condition = torch.stack([condition_clip(clip) for clip in shown])
    rival = torch.stack([to_tensor(render(of_another_kind(scene))) for scene in scenes])
    clips = {"shown": shown, "rival": rival, "still": still, "condition": condition}
    return {name: normalised(vae, clip) for name, clip in clips.items()}


@torch.no_grad()
def encode_shown(scenes: list[Scene], vae: AutoencoderKLWan) -> Latents:
    """The clips in which the edits of scenes happen."""
    return normalised(vae, torch.stack([to_tensor(render(scene)) for scene in scenes]))


@torch.no_grad()
def encode_pictures(pictures: range, vae: AutoencoderKLWan) -> dict[str, Latents]:
    """The clips of every edit of some pictures, and what the edits of a picture share."""
    scenes = [[sample_scene(picture, edit_kind=kind) for kind in EDIT_KINDS] for picture in pictures]
    shown = torch.stack([to_tensor(render(scene)) for row in scenes for scene in row])
    first = shown[:: len(EDIT_KINDS)]
    still = first[:, :, :1].expand_as(first).contiguous()
    soft = [to_tensor(blurred_reference(row[0], n)[None]) for n, row in zip(pictures, scenes, strict=True)]
    grey = torch.zeros_like(first[:, :, 1:])
    return {
        "shown": normalised(vae, shown),
        "still": normalised(vae, still),
        "condition": normalised(vae, torch.cat([first[:, :, :1], grey], 2)),
        "soft": normalised(vae, torch.cat([torch.stack(soft), grey], 2)),
    }


@torch.no_grad()
def image_tokens(pictures: list[Video], image_encoder: CLIPVisionModel) -> Float[Tensor, "batch keys width"]:
    """What the pipeline gets from the image tower for each reference image: its last but one layer."""
    device = device_of(image_encoder)
    batches = [pictures[first : first + TOWER_BATCH] for first in range(0, len(pictures), TOWER_BATCH)]
    pixels = (pixel_values(batch) for batch in batches)
    return torch.cat(
        [image_encoder(batch.to(device), output_hidden_states=True).hidden_states[-2].cpu() for batch in pixels]
    )


def normalised(vae: AutoencoderKLWan, clips: Clips) -> Latents:
    """The latents of clips, with mean 0 and spread 1 per channel."""
    mean = torch.tensor(vae.config["latents_mean"]).view(1, -1, 1, 1, 1)
    spread = torch.tensor(vae.config["latents_std"]).view(1, -1, 1, 1, 1)
    return (latents_of(vae, clips.to(device_of(vae))).cpu() - mean) / spread
