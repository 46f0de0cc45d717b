"""How training goes: a quick follow rate on development scenes, in latents, with no decoding and no judge."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor
from transformers import CLIPVisionModel

from alignvid.miniature.architecture import FLOW_SHIFT, build_tokenizer
from alignvid.miniature.padding import OnePaddingKey
from alignvid.miniature.prompts import clean_caption, evaluation_prompt
from alignvid.miniature.scenes import DEVELOPMENT, EditKind, evaluation_scenes
from alignvid.miniature.training.clips import Latents
from alignvid.miniature.training.latents import EncodedScenes, encode
from alignvid.miniature.training.train_towers import tokenise
from alignvid.miniature.training.train_transformer import EDIT_THRESHOLD, TextToVideo, predict

SCENES = 96
BATCH = 32
STEPS = 8


class ProgressScenes(NamedTuple):
    """Development scenes, ready for sampling."""

    kinds: list[EditKind]
    encoded: EncodedScenes
    captions: list[str]


def progress_scenes(
    vae: AutoencoderKLWan, image_encoder: CLIPVisionModel, *, clean: bool, count: int
) -> ProgressScenes:
    """The first development scenes, with the plainest captions or with those of an evaluation."""
    scenes = evaluation_scenes(DEVELOPMENT, count)
    parts = [encode(scenes[first : first + BATCH], vae, image_encoder) for first in range(0, count, BATCH)]
    encoded = EncodedScenes(*(torch.cat([getattr(part, name) for part in parts]) for name in EncodedScenes._fields))
    captions = [
        clean_caption(scene) if clean else evaluation_prompt(scene, index) for index, scene in enumerate(scenes)
    ]
    return ProgressScenes([scene.edit.kind for scene in scenes], encoded, captions)


@torch.no_grad()
def follow_rates(
    model: TextToVideo, processor: OnePaddingKey, scenes: ProgressScenes, caption_tokens: int
) -> dict[str, float]:
    """The share of clips nearer to the edit than to stillness where the edit is, in all and by kind of edit."""
    ids, mask = tokenise(build_tokenizer(), scenes.captions, caption_tokens)
    follows: list[bool] = []
    kinds: list[bool] = []
    for first in range(0, len(scenes.captions), BATCH):
        part = slice(first, first + BATCH)
        encoded = EncodedScenes(*(tensor[part] for tensor in scenes.encoded))
        latents = sample(model, processor, (ids[part], mask[part]), encoded)
        follows += shows_the_edit(latents, encoded)
        kinds += _right_kind(latents, encoded)
    by_kind = {
        kind: np.mean([f for f, k in zip(follows, scenes.kinds, strict=True) if k == kind]) for kind in scenes.kinds
    }
    right = [k for k, f, kind in zip(kinds, follows, scenes.kinds, strict=True) if f and kind != "delete"]
    return {"follow": float(np.mean(follows)), "right_kind": float(np.mean(right))} | {
        f"follow_{kind}": round(float(rate), 3) for kind, rate in by_kind.items()
    }


def sample(
    model: TextToVideo, processor: OnePaddingKey, tokens: tuple[Tensor, Tensor], scenes: EncodedScenes
) -> Latents:
    """Latents by Euler's method, guidance 1."""
    even = np.linspace(1, 0, STEPS + 1)
    levels = torch.tensor(FLOW_SHIFT * even / (1 + (FLOW_SHIFT - 1) * even), dtype=torch.float32)
    latents = torch.randn(scenes.shown.shape, generator=torch.Generator().manual_seed(0))
    for now, then in pairwise(levels):
        level = now.expand(len(latents)).view(-1, 1, 1, 1, 1)
        latents = latents + (then - now) * predict(model, processor, tokens, latents, level, scenes).cpu()
    return latents


def _right_kind(latents: Latents, scenes: EncodedScenes) -> list[bool]:
    """Whether clips are nearer to the edit than to the same edit with another kind of shape."""
    to_shown = (latents - scenes.shown).square().sum((1, 2, 3, 4))
    return (to_shown < (latents - scenes.rival).square().sum((1, 2, 3, 4))).tolist()


def shows_the_edit(latents: Latents, scenes: EncodedScenes) -> list[bool]:
    """Whether clips are nearer to the edit than to stillness, where the edit is."""
    edited = (scenes.shown - scenes.still).square().mean(1, keepdim=True).sqrt() > EDIT_THRESHOLD
    to_shown = ((latents - scenes.shown).square() * edited).sum((1, 2, 3, 4))
    to_still = ((latents - scenes.still).square() * edited).sum((1, 2, 3, 4))
    return (to_shown < to_still).tolist()
