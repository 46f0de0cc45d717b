"""What distinguishes the weights of a live pipeline: a digest of a few numbers of each parameter."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

NUMBERS = 16
"""Of each parameter, evenly spread; a checkpoint that was trained on differs everywhere."""


def weights_digest(pipe: Any) -> str:
    """SHA-256 over names, shapes and some numbers of all parameters of a pipeline's parts, LoRAs among them.

    Of a parameter that is elsewhere (`meta`, with sequential offload) or packed by a quantisation only name and shape
    count.
    """
    digest = hashlib.sha256()
    parts = getattr(pipe, "components", {})
    for part, module in sorted((name, part) for name, part in parts.items() if isinstance(part, nn.Module)):
        for name, parameter in module.named_parameters():
            digest.update(f"{part}.{name}\0{tuple(parameter.shape)}\0".encode())
            digest.update(_numbers(parameter))
    return digest.hexdigest()


def _numbers(parameter: Tensor) -> bytes:
    if type(parameter) not in (Tensor, nn.Parameter) or parameter.is_meta or not parameter.numel():
        return b""
    flat = parameter.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // NUMBERS)].to(torch.float64).cpu().numpy().tobytes()
