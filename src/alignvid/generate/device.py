"""Where a model runs: device, number format of the weights, and what waits in main memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from alignvid.errors import InputError

_HEADROOM = 1.3
"""Free memory wanted per byte of weights, the rest for activations; reasoned from a 14B model at 480p, not measured."""


@dataclass(frozen=True)
class Device:
    """A decided device."""

    name: str
    """"cpu", "cuda", "cuda:1" or "mps"."""
    dtype: str
    """"float32", "bfloat16" or "float16"."""
    offload: str | None
    """"none", "model" or "sequential"; None until the size of the model is known."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the record."""
        return asdict(self)


def choose_device(device: str | None, dtype: str | None, offload: str | None) -> Device:
    """The device asked for, or the best one here; bfloat16 on a GPU and float32 on a CPU unless a format is asked for.

    Raises: InputError if the device does not exist here, or cannot offload.
    """
    name = device_names()[0] if device is None else device
    if name not in device_names():
        raise InputError(
            f"Device {name!r} does not exist here; choose one of {', '.join(device_names())} "
            "(`alignvid doctor` says what is missing)."
        )
    if offload in ("model", "sequential") and not name.startswith("cuda"):
        raise InputError(f"Offload {offload!r} needs a CUDA device, but the device is {name!r}; choose 'none'.")
    return Device(name, dtype or ("float32" if name == "cpu" else "bfloat16"), offload)


def place(pipeline: Any, device: Device) -> Device:
    """Move a pipeline's models to the device, or arrange that they move when they are called.

    Offload is used without being asked for only where the weights do not fit in the free memory of a GPU.
    """
    offload = device.offload or _offload_for(pipeline, device)
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device.name)
    elif offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device.name)
    else:
        pipeline.to(device.name)
    return replace(device, offload=offload)


def device_names() -> list[str]:
    """Devices that exist here, the best one first."""
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return [*(["cuda", *gpus] if gpus else []), *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def offload_that_fits(model_bytes: list[int], free_bytes: int) -> str:
    """The least offload with which models of these sizes run in this much memory."""
    if sum(model_bytes) * _HEADROOM <= free_bytes:
        return "none"
    return "model" if max(model_bytes) * _HEADROOM <= free_bytes else "sequential"


def _offload_for(pipeline: Any, device: Device) -> str:
    if not device.name.startswith("cuda"):
        return "none"
    models = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
    sizes = [sum(tensor.nbytes for tensor in model.parameters()) for model in models]
    return offload_that_fits(sizes, torch.cuda.mem_get_info(device.name)[0])
