"""The embedded miniature: a complete Wan2.1-I2V pipeline of a few million parameters, trained on made scenes.

It is where the main job, the tests and the demo run without a download. It proves nothing about large models;
docs/miniature.md says what it is, how it was trained and what it measured.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from alignvid.errors import InputError
from alignvid.extras import require

if TYPE_CHECKING:
    from diffusers import WanImageToVideoPipeline

__all__ = ["load_pipeline", "lora_folder", "weights_folder"]


def weights_folder() -> Path:
    """The folder with the shipped weights, in diffusers' own format."""
    return Path(__file__).parent / "weights"


def lora_folder() -> Path:
    """The folder with the LoRA that makes the miniature one of four steps."""
    return Path(__file__).parent / "weights-4-step"


def load_pipeline(folder: Path | None = None, *, lora: Path | None = None) -> WanImageToVideoPipeline:
    """The miniature on the CPU in single precision, silent; from another folder if one is given.

    With `lora=lora_folder()` it is the distilled one: it takes num_inference_steps=4 and no other number, and
    guidance_scale=1, as it holds the guidance already.

    It is diffusers' own class with diffusers' own defaults, so that a call must say a size: height=80, width=80,
    num_frames=9, and as few as num_inference_steps=10. One without is refused by a sentence that says so.

    Raises: InputError if the folder holds no pipeline; MissingExtra without diffusers.
    """
    require("generate", "The miniature", "diffusers", "transformers", "ftfy")
    import torch
    from diffusers import WanImageToVideoPipeline

    from alignvid.miniature.distilled import distilled
    from alignvid.miniature.sizes import sized

    folder = folder or weights_folder()
    if not (folder / "model_index.json").is_file():
        raise InputError(
            f"{folder} holds no pipeline (no model_index.json); train one with "
            "python -m alignvid.miniature.training.train"
        )
    pipeline = WanImageToVideoPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.prepare_latents = partial(sized, pipeline.prepare_latents, pipeline.transformer.config)
    return pipeline if lora is None else distilled(pipeline, lora)
