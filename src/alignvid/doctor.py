"""What this machine has, what it lacks, and the line that installs it."""

from __future__ import annotations

import importlib.util
import platform
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PACKAGES = {
    "torch": "torch",
    "diffusers": "diffusers",
    "transformers": "transformers",
    "accelerate": "accelerate",
    "safetensors": "safetensors",
    "ftfy": "ftfy",
    "av": "av",
    "pillow": "pillow",
}
"""What `generate` needs: distribution -> what to type after `pip install`."""

_EXTRAS = {"matplotlib": '"alignvid[plots]"', "gradio": '"alignvid[app]"'}
"""What only some commands need, likewise."""

_BACKENDS = {"flash": "flash_attn", "sage": "sageattention", "xformers": "xformers"}
"""Attention backends of diffusers beside PyTorch's own: name -> module. Each gets keys that are already scaled."""


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    is_fine: bool
    text: str
    remedy: str | None = None
    """What to type, if something is missing."""
    is_required: bool = True
    """Whether `alignvid generate` fails without it."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return asdict(self)


def examine() -> list[Check]:
    """Every check, required ones first."""
    return [
        Check("python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *(_package(name, remedy) for name, remedy in _PACKAGES.items()),
        _h264(),
        _miniature(),
        _device(),
        Check("attention native", True, "PyTorch's scaled_dot_product_attention"),
        *(_backend(name, module) for name, module in _BACKENDS.items()),
        *(replace(_package(name, remedy), is_required=False) for name, remedy in _EXTRAS.items()),
    ]


def is_ready(checks: list[Check]) -> bool:
    """Whether everything that is required is there."""
    return all(check.is_fine for check in checks if check.is_required)


def _package(name: str, remedy: str) -> Check:
    try:
        return Check(name, True, version(name))
    except PackageNotFoundError:
        return Check(name, False, "missing", f"pip install {remedy}")


def _h264() -> Check:
    try:
        import av

        from alignvid.media.videos import has_h264_encoder
    except ImportError as error:
        return Check("H.264", False, str(error), "pip install av")
    if not has_h264_encoder():
        return Check("H.264", False, "PyAV has no libx264", 'pip install --force-reinstall "av>=18"')
    return Check("H.264", True, f"libx264 in FFmpeg {av.ffmpeg_version_info}, inside PyAV")


def _miniature() -> Check:
    from alignvid.miniature import weights_folder

    if (weights_folder() / "model_index.json").is_file():
        return Check("miniature", True, "its weights are there")
    return Check("miniature", False, "its weights are missing", "python -m alignvid.miniature.training.train")


def _device() -> Check:
    try:
        import torch
    except ImportError as error:
        return Check("device", False, str(error), "pip install torch")
    if torch.cuda.is_available():
        free_bytes, total_bytes = torch.cuda.mem_get_info()
        memory = f"{free_bytes / 1e9:.0f} of {total_bytes / 1e9:.0f} GB free"
        return Check("device", True, f"cuda, {torch.cuda.get_device_name()}, {memory}, CUDA {torch.version.cuda}")
    if torch.backends.mps.is_available():
        return Check("device", True, "mps, Apple GPU")
    has_cuda = torch.version.cuda is not None
    why = "no GPU is visible to this CUDA build" if has_cuda else "this build of PyTorch is for the CPU"
    text = f"cpu, {torch.get_num_threads()} threads ({why}); enough for the miniature, not for large models"
    return Check("device", True, text)


def _backend(name: str, module: str) -> Check:
    if importlib.util.find_spec(module) is not None:
        return Check(f"attention {name}", True, "installed", is_required=False)
    return Check(
        f"attention {name}",
        False,
        "not installed, optional",
        f"pip install {module.replace('_', '-')}",
        is_required=False,
    )
