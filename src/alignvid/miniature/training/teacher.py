"""What the distilled transformer learns from: the teacher's way from noise to clip, at the student's noise levels.

The teacher is the trained transformer with guidance, in three times as many steps and with two forwards in each. Ways
are made once, by the pipeline's own scheduler, for training scenes in training captions.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from alignvid.miniature.architecture import build_scheduler, build_tokenizer
from alignvid.miniature.distilled import STEPS
from alignvid.miniature.padding import OnePaddingKey, use_one_padding_key
from alignvid.miniature.prompts import clean_caption, description, long_caption, short_caption
from alignvid.miniature.scenes import Scene
from alignvid.miniature.training.clips import Latents
from alignvid.miniature.training.latents import EncodedScenes, scene_number
from alignvid.miniature.training.train_towers import CAPTION_TOKENS, tokenise
from alignvid.miniature.training.train_transformer import TRAIN_TIMESTEPS, TextToVideo, predict

GUIDANCE = 3.0
FINER = 3  # teacher's steps for one of the student's
SHARD_WAYS = 64
BATCH = 32
CAPTION_SHARES = [0.1, 0.5, 0.35, 0.05]
"""Of the plainest captions, edits alone, scenes with an edit, and scenes without."""


class Ways(NamedTuple):
    """The teacher's latents on the way from noise to clip."""

    scene: Int[Tensor, " ways"]
    """Index into the encoded scenes."""
    ids: Int[Tensor, "ways tokens"]
    mask: Int[Tensor, "ways tokens"]
    latents: Float[Tensor, "ways levels channels latent_frames latent_height latent_width"]
    """At the student's noise levels, from noise (the first) to the clip (the last)."""


def make_shard(folder: Path, shard: int, model: TextToVideo, scenes: EncodedScenes, seed: int) -> None:
    """Write one shard of ways into a file, unless it is there."""
    path = folder / f"ways-{shard:03d}.safetensors"
    if path.exists():
        return
    rng = np.random.default_rng([seed, *b"ways", shard])
    indices = rng.integers(0, len(scenes.shown), SHARD_WAYS)
    captions = [_caption(scene_number(int(index)), rng) for index in indices]
    ids, mask = tokenise(build_tokenizer(), captions, CAPTION_TOKENS)
    noise = torch.from_numpy(rng.standard_normal((SHARD_WAYS, *scenes.shown.shape[1:]), dtype=np.float32))
    processor = use_one_padding_key(model.transformer)
    parts = []
    for first in tqdm(range(0, SHARD_WAYS, BATCH), desc=path.stem, mininterval=5):
        part = slice(first, first + BATCH)
        drawn = scenes.at(torch.from_numpy(indices[part]))
        parts.append(teacher_ways(model, processor, (ids[part], mask[part]), drawn, noise[part]))
    fields = {"scene": torch.from_numpy(indices), "ids": ids, "mask": mask, "latents": torch.cat(parts).half()}
    save_file(fields, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def load_ways(folder: Path) -> Ways:
    """All ways that were made."""
    shards = [load_file(path) for path in sorted(folder.glob("ways-*.safetensors"))]
    return Ways(**{name: torch.cat([shard[name] for shard in shards]) for name in Ways._fields})


def _caption(scene: Scene, rng: np.random.Generator) -> str:
    match int(rng.choice(len(CAPTION_SHARES), p=CAPTION_SHARES)):
        case 0:
            return clean_caption(scene)
        case 1:
            return short_caption(scene, rng).text
        case 2:
            return long_caption(scene, rng).text
    return description(scene, rng)


@torch.no_grad()
def teacher_ways(
    model: TextToVideo,
    processor: OnePaddingKey,
    tokens: tuple[Tensor, Tensor],
    scenes: EncodedScenes,
    noise: Latents,
) -> Float[Tensor, "ways levels channels latent_frames latent_height latent_width"]:
    """The teacher's latents at the student's noise levels, by the pipeline's scheduler with guidance."""
    count = len(noise)
    empty = tokenise(build_tokenizer(), [""] * count, tokens[0].shape[1])
    both = (torch.cat([tokens[0], empty[0]]), torch.cat([tokens[1], empty[1]]))
    twice = EncodedScenes(*(torch.cat([field, field]) for field in scenes))
    scheduler = build_scheduler()
    scheduler.set_timesteps(FINER * STEPS)
    latents, kept = noise, [noise]
    for index, timestep in enumerate(scheduler.timesteps):
        level = (timestep / TRAIN_TIMESTEPS).float().expand(2 * count).view(-1, 1, 1, 1, 1)
        asked, plain = predict(model, processor, both, torch.cat([latents] * 2), level, twice).cpu().chunk(2)
        latents = scheduler.step(plain + GUIDANCE * (asked - plain), timestep, latents, return_dict=False)[0]
        if (index + 1) % FINER == 0:
            kept.append(latents)
    return torch.stack(kept, 1)
