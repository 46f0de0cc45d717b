"""A loaded model: a pipeline on its device, kept for one generation or for many."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from alignvid.generate.device import Device, choose_device, place
from alignvid.generate.loading import ModelSource, load_pipeline
from alignvid.generate.record import ModelFacts
from alignvid.generate.spec import GenerationSpec


@dataclass(frozen=True)
class Model:
    """A pipeline that is ready to run."""

    source: ModelSource
    pipeline: Any
    device: Device
    load_s: float
    """Seconds that loading took."""

    @property
    def threads(self) -> int:
        """CPU threads that suit the model.

        The miniature's operations are so small that a second thread costs more than it gives, above all on a busy
        machine; and one thread sums in the same order everywhere.
        """
        return 1 if self.source.is_miniature else torch.get_num_threads()

    @contextmanager
    def thread_limit(self) -> Iterator[None]:
        """Keep PyTorch to `threads` inside the block."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def facts(self) -> ModelFacts:
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
