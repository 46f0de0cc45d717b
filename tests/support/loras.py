"""Made LoRAs, loaded by peft, and the same merged into the weights by hand."""

from __future__ import annotations

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

RANK = 2
ONE, TWO = {"first": 1.0}, {"first": 0.7, "second": 0.4}
"""Scales by the adapter's name."""


def lora_of(transformer: nn.Module, seed: int) -> dict[str, Tensor]:
    """Weights of a LoRA for the projections of every attention, in the format of peft."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, module in transformer.named_modules():
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in ("to_q", "to_k", "to_v"):
            weights[f"{name}.lora_A.weight"] = torch.randn(RANK, module.in_features, generator=generator)
            weights[f"{name}.lora_B.weight"] = torch.randn(module.out_features, RANK, generator=generator) / 10
    return weights


def load(pipe: DiffusionPipeline, adapters: dict[str, float]) -> None:
    loras = [lora_of(pipe.transformer, seed) for seed in range(len(adapters))]  # before a loaded one renames modules
    for lora, adapter in zip(loras, adapters, strict=True):
        state = {f"transformer.{key}": value for key, value in lora.items()}
        pipe.transformer.load_lora_adapter(state, adapter_name=adapter)
    pipe.transformer.set_adapters(list(adapters), list(adapters.values()))


def merge(pipe: DiffusionPipeline, adapters: dict[str, float]) -> None:
    """The same by hand: W + scale * B A."""
    with torch.no_grad():
        for seed, scale in enumerate(adapters.values()):
            weights = lora_of(pipe.transformer, seed)
            for key in weights:
                if key.endswith(".lora_A.weight"):
                    name = key.removesuffix(".lora_A.weight")
                    delta = weights[f"{name}.lora_B.weight"] @ weights[key]
                    pipe.transformer.get_submodule(name).weight += scale * delta
