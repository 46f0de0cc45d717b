"""One training loop for every part of the miniature: learning rate, checkpoints, resume, progress bar and log."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from alignvid.miniature.training.muon import Muon

CHECKPOINT_EVERY_S = 120
LOG_EVERY_STEPS = 10
GRADIENT_NORM = 1.0
WARM_UP_STEPS = 100
WEIGHT_DECAY = 0.01
MUON_PREFIX = "transformer.blocks."
MUON_MOMENTUM = 0.95
MUON_ROWS = 12  # convolutions with fewer outputs are left to AdamW
MUON_FACTOR = 2.5  # Muon's updates have the size of AdamW's at the same rate, but stand a larger one

M = TypeVar("M", bound=nn.Module)
Losses = dict[str, Tensor]
Optimisers = Sequence[torch.optim.Optimizer]


class Plan(NamedTuple):
    """How long and how fast one stage is trained."""

    name: str
    steps: int
    learning_rate: float
    final_share: float
    """The learning rate falls along a cosine to this share of its peak."""


def train(
    plan: Plan,
    module: nn.Module,
    losses_at: Callable[[int], Losses],
    *,
    folder: Path,
    report: Callable[[int], dict[str, float]] | None = None,
    report_every: int = 0,
) -> None:
    """Train `module` in place for the steps of `plan`, from its last checkpoint in `folder` if there is one.

    `losses_at(step)` must return the loss to minimise under "loss", and may add others for the log. It has to draw its
    randomness from `step` alone; a run that was stopped resumes as if it had not been.
    """
    optimisers = _optimisers(module)
    checkpoint = folder / f"{plan.name}.safetensors"
    first = load_checkpoint(checkpoint, module, optimisers) if checkpoint.exists() else 0
    last_save = time.monotonic()
    for step in tqdm(range(first, plan.steps), initial=first, total=plan.steps, desc=plan.name, mininterval=5):
        rate = learning_rate(plan, step)
        losses = _step(module, optimisers, losses_at(step), rate)
        if step % LOG_EVERY_STEPS == 0:
            write_log(folder, stage=plan.name, step=step, rate=rate, **losses)
        if report and (step + 1) % report_every == 0:
            write_log(folder, stage=plan.name, step=step + 1, **report(step + 1))
        if time.monotonic() - last_save > CHECKPOINT_EVERY_S or step + 1 == plan.steps:
            save_checkpoint(checkpoint, module, optimisers, step + 1)
            last_save = time.monotonic()


def placed(module: M, device: str) -> M:
    """The module, moved to a device."""
    nn.Module.to(module, device)
    return module


def device_of(module: nn.Module) -> torch.device:
    """Where the module's weights are."""
    return next(module.parameters()).device


def learning_rate(plan: Plan, step: int) -> float:
    """The rate at a step: a linear warm-up, then half a cosine."""
    decay = 0.5 + 0.5 * torch.cos(torch.tensor(torch.pi * step / plan.steps)).item()
    return (
        plan.learning_rate * min(1.0, (step + 1) / WARM_UP_STEPS) * (plan.final_share + (1 - plan.final_share) * decay)
    )


def _optimisers(module: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for matrices in transformer blocks (docs/lab-log.md, 2026-11-22) and 3D convolutions, AdamW for the rest."""
    matrices = {
        id(p): p
        for name, p in module.named_parameters()
        if (name.startswith(MUON_PREFIX) and p.ndim == 2) or (p.ndim == 5 and len(p) >= MUON_ROWS)
    }
    rest = [parameter for parameter in module.parameters() if id(parameter) not in matrices]
    optimisers: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, betas=(0.9, 0.99), weight_decay=WEIGHT_DECAY)]
    if matrices:
        optimisers.append(
            Muon(matrices.values(), learning_rate=1e-3, momentum=MUON_MOMENTUM, weight_decay=WEIGHT_DECAY)
        )
    return optimisers


def _step(module: nn.Module, optimisers: Optimisers, losses: Losses, rate: float) -> dict[str, float]:
    losses["loss"].backward()
    norm = nn.utils.clip_grad_norm_(module.parameters(), GRADIENT_NORM)
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = rate * (MUON_FACTOR if isinstance(optimiser, Muon) else 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return {name: round(loss.item(), 5) for name, loss in losses.items()} | {"gradient": round(norm.item(), 4)}


def write_log(folder: Path, **row: object) -> None:
    """Append one row to the training log."""
    with (folder / "log.jsonl").open("a") as log:
        log.write(json.dumps({"schema_version": 1, "time": round(time.time(), 1), **row}) + "\n")


def save_checkpoint(path: Path, module: nn.Module, optimisers: Optimisers, step: int) -> None:
    """Write weights and optimiser states under the final name only when complete."""
    # Clones, since safetensors refuses tied weights (the embedding of UMT5), which load as well from two copies.
    tensors = {f"module.{name}": tensor.clone() for name, tensor in module.state_dict().items()}
    for optimiser in optimisers:
        for index, state in optimiser.state_dict()["state"].items():
            prefix = f"{type(optimiser).__name__}.{index}"
            tensors |= {f"{prefix}.{name}": value.contiguous() for name, value in state.items()}
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata={"step": str(step)})
    part.replace(path)


def load_checkpoint(path: Path, module: nn.Module, optimisers: Optimisers = ()) -> int:
    """Restore what `save_checkpoint` wrote and return the number of steps done."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        step = int(file.metadata()["step"])
    prefix = "module."
    module.load_state_dict({name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)})
    for optimiser in optimisers:
        _restore(optimiser, tensors)
    return step


def steps_done(path: Path) -> int:
    """How many steps a checkpoint has behind it; none where there is no checkpoint."""
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        return int(file.metadata()["step"])


def _restore(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(type(optimiser).__name__ + "."):
            _, index, field = name.split(".")
            states.setdefault(int(index), {})[field] = value
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})
