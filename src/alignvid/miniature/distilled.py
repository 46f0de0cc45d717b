"""The miniature in four steps: a LoRA over its transformer that was distilled from twelve steps with guidance.

As the four-step LoRAs of large models, it holds the guidance already: it is run with guidance 1, one forward a step,
by Euler's method at the four noise levels that it was trained at. Any other number of steps is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import UniPCMultistepScheduler, WanImageToVideoPipeline
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from alignvid.errors import InputError

STEPS = 4
NAME = "miniature-4-step"
"""Of the model, and of the folder of its LoRA; the preset for it is recognised by this."""
RANK = 16
FILE = "pytorch_lora_weights.safetensors"
PREFIX = "transformer."  # names are those of diffusers and peft, so that `load_lora_weights` reads the file, too
LINEARS_OF = "blocks."


class FourStepScheduler(UniPCMultistepScheduler):
    """Wan's scheduler at first order without its corrector, which is Euler's method; for four steps alone."""

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        sigmas: list[float] | None = None,
        mu: Any = None,
    ) -> None:
        """The four noise levels that the LoRA was trained at.

        Raises: InputError for any others.
        """
        if num_inference_steps != STEPS or sigmas is not None:
            given = "noise levels of its own" if sigmas is not None else f"{num_inference_steps} steps"
            raise InputError(
                f"The distilled miniature runs in {STEPS} steps, and was given {given}; say num_inference_steps="
                f"{STEPS} (in the command line leave --steps out), or take the miniature that is not distilled."
            )
        super().set_timesteps(num_inference_steps, device, mu=mu)


def four_step_scheduler(like: UniPCMultistepScheduler) -> FourStepScheduler:
    """The scheduler for the distilled transformer, with the noise levels of a pipeline's own."""
    settings: Any = {**like.config, "solver_order": 1, "disable_corrector": list(range(STEPS))}
    return FourStepScheduler(**{name: value for name, value in settings.items() if not name.startswith("_")})


def linears(transformer: nn.Module) -> dict[str, nn.Linear]:
    """Every linear layer of the transformer's blocks, by name: what the LoRA changes."""
    found = transformer.named_modules()
    return {name: part for name, part in found if name.startswith(LINEARS_OF) and isinstance(part, nn.Linear)}


def distilled(pipeline: WanImageToVideoPipeline, folder: Path) -> WanImageToVideoPipeline:
    """The pipeline itself, in whose weights the LoRA of a folder now is, and its four-step scheduler.

    Raises: InputError if the folder holds no LoRA, or one for another transformer.
    """
    file = folder / FILE
    if not file.is_file():
        raise InputError(f"{folder} holds no {FILE}; train one with python -m alignvid.miniature.training.train.")
    add_low_rank(pipeline.transformer, load_file(file))
    pipeline.transformer.register_to_config(_name_or_path=NAME)
    pipeline.scheduler = four_step_scheduler(pipeline.scheduler)
    return pipeline


@torch.no_grad()
def add_low_rank(transformer: nn.Module, lora: dict[str, Tensor]) -> None:
    """Add each layer's product of two narrow matrices to its weight, in single precision.

    Raises: InputError if the LoRA's layers are not this transformer's.
    """
    layers = linears(transformer)
    wanted = {f"{PREFIX}{name}.{part}.weight" for name in layers for part in ("lora_A", "lora_B")}
    if odd := sorted(wanted.symmetric_difference(lora)):
        raise InputError(f"The LoRA is for another transformer: {odd[0]!r} is in one of the two alone.")
    for name, layer in layers.items():
        change = low_rank(lora[f"{PREFIX}{name}.lora_A.weight"], lora[f"{PREFIX}{name}.lora_B.weight"])
        layer.weight.copy_(layer.weight.float() + change.to(layer.weight.device))


def low_rank(down: Float[Tensor, "rank inputs"], up: Float[Tensor, "outputs rank"]) -> Float[Tensor, "outputs inputs"]:
    """What a LoRA adds to a weight."""
    return up.float() @ down.float()
