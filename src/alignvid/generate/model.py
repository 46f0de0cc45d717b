"""A loaded model: a pipeline on its device, kept for one generation or for many."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignvid.generate.device import Device, choose_device, place
from alignvid.generate.loading import ModelSource, load_pipeline
from alignvid.generate.spec import GenerationSpec


@dataclass(frozen=True)
class Model:
    """A pipeline that is ready to run."""

    source: ModelSource
    pipeline: Any
    device: Device
    load_s: float
    """Seconds that loading took."""

    def facts(self) -> dict[str, Any]:
        """What a record says of it."""
        return {
            "name": self.source.name,
            "pipeline": self.source.pipeline_class,
            "location": None if self.source.is_miniature else self.source.location,
            "revision": _revision(self.pipeline),
        }


def load_model(source: ModelSource, spec: GenerationSpec, *, show_progress: bool) -> Model:
    """Load the model on the spec's device, or on the best one here.

    Raises: InputError if the device does not exist or the model is incomplete.
    """
    device = choose_device(spec.device, spec.dtype, spec.offload)
    begin = time.perf_counter()
    pipeline = load_pipeline(source, device.dtype)
    device = place(pipeline, device)
    _save_memory(pipeline, device)
    pipeline.set_progress_bar_config(disable=not show_progress)
    return Model(source, pipeline, device, time.perf_counter() - begin)


def _save_memory(pipeline: Any, device: Device) -> None:
    """HunyuanVideo's autoencoder decodes a whole video at once unless it works in tiles, as its model card advises."""
    vae: Any = getattr(pipeline, "vae", None)
    if device.name != "cpu" and type(vae).__name__ == "AutoencoderKLHunyuanVideo":
        vae.enable_tiling()


def _revision(pipeline: Any) -> str | None:
    """The commit of a model from the Hub: the name of the folder that its snapshot lies in."""
    path = Path(str(getattr(pipeline, "name_or_path", "")))
    return path.name if path.parent.name == "snapshots" else None
