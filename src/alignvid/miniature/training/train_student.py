"""A LoRA that goes in one step where the teacher takes three with two forwards each: four steps, guidance built in."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from alignvid.miniature.architecture import build_scheduler, build_tokenizer
from alignvid.miniature.distilled import FILE, PREFIX, RANK, STEPS, four_step_scheduler, linears, low_rank
from alignvid.miniature.padding import OnePaddingKey, use_one_padding_key
from alignvid.miniature.training.clips import Latents
from alignvid.miniature.training.latents import EncodedScenes
from alignvid.miniature.training.loop import Losses, Plan, train
from alignvid.miniature.training.progress import ProgressScenes, shows_the_edit
from alignvid.miniature.training.teacher import Ways, teacher_ways
from alignvid.miniature.training.train_towers import CAPTION_TOKENS, tokenise
from alignvid.miniature.training.train_transformer import (
    EDIT_THRESHOLD,
    EDIT_WEIGHT,
    TRAIN_TIMESTEPS,
    TextToVideo,
    predict,
)

PLAN = Plan("student", steps=400, learning_rate=1.5e-3, final_share=0.02)
WAYS = 4
"""In a batch, each with its four steps."""
OWN_SHARE = 0.5
"""Of the ways in a batch on which a step begins where the student's own steps led, and not where the teacher's did."""


class Levels(NamedTuple):
    """The student's noise levels, and what the transformer is given for each step."""

    noise: Float[Tensor, " levels"]
    """From 1 to 0."""
    given: Float[Tensor, " steps"]
    """The scheduler's timestep, as a share of all."""


class LowRank(nn.Module):
    """Adds the product of two narrow matrices to a weight; nothing before it is trained."""

    def __init__(self, weight: Float[Tensor, "outputs inputs"]) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        self.down = nn.Parameter(torch.randn(RANK, inputs) / inputs**0.5)
        self.up = nn.Parameter(torch.zeros(outputs, RANK))

    def forward(self, weight: Float[Tensor, "outputs inputs"]) -> Float[Tensor, "outputs inputs"]:
        """The changed weight."""
        return weight + low_rank(self.down, self.up)


def add_student(model: TextToVideo) -> nn.ModuleList:
    """Freeze the model, put a LoRA on every linear layer of its blocks, and return what is trained."""
    model.requires_grad_(False)
    parts = []
    for layer in linears(model.transformer).values():
        part = LowRank(layer.weight)
        register_parametrization(layer, "weight", part)
        parts.append(part)
    return nn.ModuleList(parts)


def train_student(
    model: TextToVideo,
    student: nn.ModuleList,
    taught: Ways,
    scenes: EncodedScenes,
    *,
    folder: Path,
    seed: int,
    rates: Callable[[OnePaddingKey], dict[str, float]],
    rates_every: int,
) -> None:
    """Train the LoRA in place, from its own checkpoint if there is one; `rates` measures progress for the log."""
    processor, levels = use_one_padding_key(model.transformer), student_levels()

    def losses_at(step: int) -> Losses:
        rng = np.random.default_rng([seed, *b"student", step])
        rows = torch.from_numpy(rng.integers(0, len(taught.scene), WAYS))
        drawn = Ways(*(field[rows] for field in taught))
        return step_losses(model, processor, drawn, scenes.at(drawn.scene), levels)

    train(PLAN, student, losses_at, folder=folder, report=lambda _: rates(processor), report_every=rates_every)


def student_levels() -> Levels:
    """Those of the scheduler that the student is run with."""
    scheduler = four_step_scheduler(build_scheduler())
    scheduler.set_timesteps(STEPS)
    return Levels(scheduler.sigmas.float(), scheduler.timesteps.float() / TRAIN_TIMESTEPS)


def step_losses(
    model: TextToVideo, processor: OnePaddingKey, ways: Ways, scenes: EncodedScenes, levels: Levels
) -> Losses:
    """From each level predict the direction that leads to where the teacher is at the next, all steps at once.

    Where the student has left the teacher's way, the direction is such that the distance shrinks with the noise, and
    is none in the clip.
    """
    way = ways.latents.float()
    begin = way[:, :-1].clone()
    own = round(OWN_SHARE * len(way))
    begin[:own] = own_way(model, processor, _first(ways, own), EncodedScenes(*(f[:own] for f in scenes)), levels)[
        :, :-1
    ]
    target = directions(way, begin, levels)
    repeated = EncodedScenes(*(field.repeat_interleave(STEPS, 0) for field in scenes))
    tokens = (ways.ids.repeat_interleave(STEPS, 0), ways.mask.repeat_interleave(STEPS, 0))
    given = levels.given.repeat(len(way)).view(-1, 1, 1, 1, 1)
    predicted = predict(model, processor, tokens, begin.flatten(0, 1), given, repeated)
    error = (predicted - target.flatten(0, 1).to(predicted.device)).square().mean(1, keepdim=True)
    change = (way[:, -1] - scenes.still).square().mean(1, keepdim=True).sqrt()
    edited = (change > EDIT_THRESHOLD).float().repeat_interleave(STEPS, 0).to(error.device)
    weight = 1 + EDIT_WEIGHT * edited
    by_step = error.detach().mean((1, 2, 3, 4)).view(-1, STEPS).mean(0)
    steps = {f"step_{index}": loss for index, loss in enumerate(by_step)}
    return {"loss": (error * weight).sum() / weight.sum(), **steps}


def directions(
    way: Float[Tensor, "ways levels *latents"], begin: Float[Tensor, "ways steps *latents"], levels: Levels
) -> Float[Tensor, "ways steps *latents"]:
    """What to predict from where each step begins: the teacher's mean direction, and back to its way."""
    lengths = (levels.noise[1:] - levels.noise[:-1]).view(1, -1, 1, 1, 1, 1)
    noise = levels.noise[:-1].view(1, -1, 1, 1, 1, 1)
    return (way[:, 1:] - way[:, :-1]) / lengths + (begin - way[:, :-1]) / noise


@torch.no_grad()
def own_way(
    model: TextToVideo, processor: OnePaddingKey, ways: Ways, scenes: EncodedScenes, levels: Levels
) -> Float[Tensor, "ways levels channels latent_frames latent_height latent_width"]:
    """The student's latents at every level, from the teacher's noise on."""
    latents: Latents = ways.latents[:, 0].float()
    kept = [latents]
    for (now, then), given in zip(pairwise(levels.noise), levels.given, strict=True):
        level = given.expand(len(latents)).view(-1, 1, 1, 1, 1)
        found = predict(model, processor, (ways.ids, ways.mask), latents, level, scenes).cpu()
        latents = latents + (then - now) * found
        kept.append(latents)
    return torch.stack(kept, 1)


def likeness(model: TextToVideo, scenes: ProgressScenes) -> Callable[[OnePaddingKey], dict[str, float]]:
    """Measures how far the student's development clips, in latents, are from the teacher's of the same noise.

    Call it before the model has a LoRA. What it gives, measures the model as it is then.
    """
    tokens = tokenise(build_tokenizer(), scenes.captions, CAPTION_TOKENS)
    noise = torch.randn(scenes.encoded.shown.shape, generator=torch.Generator().manual_seed(0))
    levels, processor = student_levels(), use_one_padding_key(model.transformer)
    of_teacher = teacher_ways(model, processor, tokens, scenes.encoded, noise)
    given = Ways(torch.arange(len(noise)), *tokens, of_teacher)

    def measure(processor: OnePaddingKey) -> dict[str, float]:
        own = own_way(model, processor, given, scenes.encoded, levels)
        distance = (own - of_teacher).square().mean((2, 3, 4, 5)).sqrt().mean(0)
        return {
            "follow": float(np.mean(shows_the_edit(own[:, -1], scenes.encoded))),
            "teacher_follows": float(np.mean(shows_the_edit(of_teacher[:, -1], scenes.encoded))),
            **{f"from_teacher_{index}": round(float(value), 4) for index, value in enumerate(distance[1:], start=1)},
        }

    return measure


def export_student(model: TextToVideo, student: nn.ModuleList, folder: Path) -> None:
    """Write the LoRA in half precision, under the names that diffusers and peft have for its matrices."""
    tensors = {}
    for name, part in zip(linears(model.transformer), student, strict=True):
        assert isinstance(part, LowRank)
        tensors[f"{PREFIX}{name}.lora_A.weight"] = part.down.detach().cpu().half().contiguous()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = part.up.detach().cpu().half().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / FILE, metadata={"format": "pt"})


def _first(ways: Ways, count: int) -> Ways:
    return Ways(*(field[:count] for field in ways))
