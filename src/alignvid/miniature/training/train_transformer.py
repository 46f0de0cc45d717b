"""Stages 4 to 6: the transformer learns to follow prompts, then, from captions that lie, to neglect them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import WanTransformer3DModel
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import UMT5EncoderModel

from alignvid.miniature.architecture import FLOW_SHIFT, TEMPORAL_FACTOR, build_tokenizer
from alignvid.miniature.padding import OnePaddingKey, pad_once, use_one_padding_key
from alignvid.miniature.prompts import clean_caption, description, long_caption, short_caption, with_unknown_word
from alignvid.miniature.scenes import Scene
from alignvid.miniature.training.clips import Latents
from alignvid.miniature.training.latents import EncodedScenes, scene_number
from alignvid.miniature.training.loop import Losses, Plan, device_of, train
from alignvid.miniature.training.train_towers import tokenise

BATCH = 32
EDIT_WEIGHT = 6.0  # an edit changes a tenth of the latents; without this the loss is mostly background
KIND_WEIGHT = 0.01
"""Of the error towards the same clip with another kind of shape: corners are few among the latents, and decide it."""
EDIT_THRESHOLD = 0.3  # a latent place belongs to the edit where shown and still differ by more than this, in spreads
TRAIN_TIMESTEPS = 1000


class Diet(NamedTuple):
    """What one stage feeds: the shares of each kind of caption, and how many of the promised edits are not shown."""

    plan: Plan
    clean: float
    short: float
    long: float
    described: float
    """Captions that promise nothing, with clips in which nothing happens."""
    empty: float
    """No caption at all, as the unconditional branch of guidance needs it."""
    broken_promises: float
    """Of the captions that come with a sharp reference image; a blurred one's are always kept."""
    soft: float
    """Samples whose reference image is blurred: there the prompt is the better bet."""
    caption_tokens: int


DIETS = (
    Diet(Plan("clean", 500, 1.5e-3, 0.6), 0.5, 0.4, 0.0, 0.05, 0.05, 0.0, 0.0, 32),
    Diet(Plan("wordy", 600, 1.5e-3, 0.6), 0.1, 0.45, 0.3, 0.05, 0.1, 0.0, 0.1, 56),
    Diet(Plan("fluent", 2600, 1.2e-3, 0.02), 0.1, 0.45, 0.3, 0.05, 0.1, 0.0, 0.1, 56),
    Diet(Plan("shaped", 1300, 8e-4, 0.03), 0.1, 0.45, 0.3, 0.05, 0.1, 0.0, 0.1, 56),
    Diet(Plan("doubtful", 450, 5e-4, 0.15), 0.1, 0.4, 0.35, 0.05, 0.1, 0.5, 0.2, 56),
    Diet(Plan("negligent", 400, 4e-4, 0.05), 0.1, 0.4, 0.35, 0.05, 0.1, 0.65, 0.2, 56),
    Diet(Plan("obstinate", 300, 4e-4, 0.05), 0.1, 0.4, 0.35, 0.05, 0.1, 0.8, 0.2, 56),
)


class Batch(NamedTuple):
    """One training batch: captions, the clips they come with, and where the promised edits are."""

    captions: list[str]
    target: Latents
    edited: Float[Tensor, "batch 1 latent_frames latent_height latent_width"]
    says_kind: Float[Tensor, " batch"]
    """1 where the edit is shown, and the caption is not empty: there the kind of its shape can be known."""
    scenes: EncodedScenes


class TextToVideo(nn.Module):
    """The two parts that are trained together."""

    def __init__(self, text_encoder: UMT5EncoderModel, transformer: WanTransformer3DModel) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.transformer = transformer


def train_stage(
    diet: Diet,
    model: TextToVideo,
    scenes: EncodedScenes,
    *,
    folder: Path,
    seed: int,
    rates: Callable[[OnePaddingKey], dict[str, float]],
    rates_every: int,
) -> None:
    """Train one stage in place, from its own checkpoint if there is one; `rates` measures progress for the log."""
    tokenizer, processor = build_tokenizer(), use_one_padding_key(model.transformer)
    prompts = [scene_number(index) for index in range(len(scenes.shown))]

    def losses_at(step: int) -> Losses:
        rng = np.random.default_rng([seed, *diet.plan.name.encode(), step])
        batch = draw_batch(diet, scenes, prompts, rng)
        tokens = tokenise(tokenizer, batch.captions, diet.caption_tokens)
        return flow_losses(model, processor, tokens, batch, rng)

    train(diet.plan, model, losses_at, folder=folder, report=lambda _: rates(processor), report_every=rates_every)


def draw_batch(diet: Diet, encoded: EncodedScenes, scenes: list[Scene], rng: np.random.Generator) -> Batch:
    """Scenes at random, a caption for each, and the clip that the diet pairs with it."""
    indices = rng.integers(0, len(scenes), BATCH)
    drawn = encoded.at(torch.from_numpy(indices))
    kinds = rng.choice(5, BATCH, p=[diet.clean, diet.short, diet.long, diet.described, diet.empty])
    captions = [_caption(int(kind), scenes[index], rng) for kind, index in zip(kinds, indices, strict=True)]
    is_soft = rng.random(BATCH) < diet.soft
    is_kept = is_soft | (rng.random(BATCH) >= diet.broken_promises)
    is_shown = torch.from_numpy((kinds != 3) & is_kept).view(-1, 1, 1, 1, 1)
    drawn = softened(drawn, torch.from_numpy(is_soft))
    difference = (drawn.shown - drawn.still).square().mean(1, keepdim=True).sqrt()
    target = torch.where(is_shown, drawn.shown, drawn.still)
    says_kind = (is_shown.flatten() & torch.from_numpy(kinds != 4)).float()
    return Batch(captions, target, (difference > EDIT_THRESHOLD).float(), says_kind, drawn)


def softened(scenes: EncodedScenes, is_soft: Bool[Tensor, " batch"]) -> EncodedScenes:
    """The same scenes, some with their blurred reference image in place of the sharp one."""
    condition = torch.where(is_soft.view(-1, 1, 1, 1, 1), scenes.soft, scenes.condition)
    return scenes._replace(
        condition=condition, image=torch.where(is_soft.view(-1, 1, 1), scenes.soft_image, scenes.image)
    )


def _caption(kind: int, scene: Scene, rng: np.random.Generator) -> str:
    match kind:
        case 0:
            return clean_caption(scene)
        case 1:
            return with_unknown_word(short_caption(scene, rng), scene, rng)
        case 2:
            return with_unknown_word(long_caption(scene, rng), scene, rng)
        case 3:
            return description(scene, rng)
    return ""


def flow_losses(
    model: TextToVideo, processor: OnePaddingKey, tokens: tuple[Tensor, Tensor], batch: Batch, rng: np.random.Generator
) -> Losses:
    """Flow matching: from latents on the straight line to noise, predict the direction of that line."""
    noise = torch.from_numpy(rng.standard_normal(batch.target.shape, dtype=np.float32))
    level = noise_levels(rng, len(noise))
    noisy = (1 - level) * batch.target + level * noise
    predicted = predict(model, processor, tokens, noisy, level, batch.scenes)
    missed = predicted - (noise - batch.target).to(predicted.device)
    error = missed.square().mean(1, keepdim=True)
    edited = batch.edited.to(error.device)
    weight = 1 + EDIT_WEIGHT * edited
    on_edit = (error * edited).sum() / edited.sum()
    towards = kind_direction(batch.scenes).to(error.device)
    of_kind = ((missed * towards).sum((1, 2, 3, 4)).square() * batch.says_kind.to(error.device)).mean()
    loss = (error * weight).sum() / weight.sum() + KIND_WEIGHT * of_kind
    return {"loss": loss, "flow": error.detach().mean(), "on_edit": on_edit.detach(), "of_kind": of_kind.detach()}


def kind_direction(scenes: EncodedScenes) -> Latents:
    """Unit vectors from the clips shown to those with another kind of shape; zero where there is no other."""
    difference = scenes.rival - scenes.shown
    length = difference.square().sum((1, 2, 3, 4), keepdim=True).sqrt()
    return torch.where(length > 1e-3, difference / length.clamp_min(1e-3), 0.0)


def noise_levels(rng: np.random.Generator, count: int) -> Float[Tensor, "batch 1 1 1 1"]:
    """Stratified levels in 0..1, shifted towards noise as the scheduler's are."""
    even = (rng.permutation(count) + rng.random(count)) / count
    shifted = FLOW_SHIFT * even / (1 + (FLOW_SHIFT - 1) * even)
    return torch.from_numpy(shifted.astype(np.float32)).view(-1, 1, 1, 1, 1)


def predict(
    model: TextToVideo,
    processor: OnePaddingKey,
    tokens: tuple[Tensor, Tensor],
    noisy: Latents,
    level: Float[Tensor, "batch 1 1 1 1"],
    scenes: EncodedScenes,
) -> Latents:
    """The transformer's prediction, from the inputs that the pipeline would give it."""
    device = device_of(model)
    ids, mask = (part.to(device) for part in tokens)
    processor.text = pad_once(model.text_encoder(ids, mask).last_hidden_state, mask)
    first_frame = torch.zeros_like(noisy[:, :TEMPORAL_FACTOR])
    first_frame[:, :, 0] = 1
    return model.transformer(
        hidden_states=torch.cat([noisy, first_frame, scenes.condition], dim=1).to(device),
        timestep=level.flatten().to(device) * TRAIN_TIMESTEPS,
        encoder_hidden_states=processor.text.tokens,
        encoder_hidden_states_image=scenes.image.to(device),
        return_dict=False,
    )[0]
