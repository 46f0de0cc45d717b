"""The most memory that a piece of work held: on a GPU what PyTorch allocated there, else what this process held."""

from __future__ import annotations

from pathlib import Path

_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def forget_peak(device: str) -> None:
    """Begin to measure anew, on a device such as "cuda" or "cpu"; where the system cannot, nothing happens."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        _FORGET.write_text("5")  # Linux: the peak is what is held now (proc(5))
    except OSError:
        return


def peak_bytes(device: str) -> int | None:
    """The most memory since `forget_peak`; None where the system does not say."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    try:
        lines = _STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)
