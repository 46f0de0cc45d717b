"""The last stage: the trained parts as one pipeline folder, in half precision."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKLWan, WanImageToVideoPipeline
from transformers import CLIPVisionModel

from alignvid.miniature.architecture import build_image_processor, build_scheduler, build_tokenizer
from alignvid.miniature.training.train_transformer import TextToVideo


def export(model: TextToVideo, vae: AutoencoderKLWan, image_encoder: CLIPVisionModel, folder: Path) -> None:
    """Write a folder that `from_pretrained` loads, replacing the one there. The parts become half precision."""
    for trained in (model, vae, image_encoder):
        trained.eval().half()
    for part in (vae, model.transformer):
        part.register_to_config(_name_or_path="")  # else the folder that its checkpoint came from is published
    wan: Any = WanImageToVideoPipeline  # whose annotations name other classes than its model files do
    pipeline = wan(
        tokenizer=build_tokenizer(),
        text_encoder=model.text_encoder,
        vae=vae,
        scheduler=build_scheduler(),
        image_processor=build_image_processor(),
        image_encoder=image_encoder,
        transformer=model.transformer,
        transformer_2=None,
    )
    unfinished = folder.with_name(folder.name + ".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    pipeline.save_pretrained(unfinished, safe_serialization=True)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.replace(folder)
