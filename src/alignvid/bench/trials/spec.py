"""TrialSpec: what a trial compares, on what, and where it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alignvid.bench.data.dataset import OMITI2V, OMITSHAPES
from alignvid.bench.runs.spec import BenchSpec
from alignvid.errors import InputError
from alignvid.generate.spec import MINIATURES, ModelSettings

ARMS = ("still", "baseline", "released", "generic", "follow-0.4", "follow-0.8", "guidance")
"""Unless others are named."""


@dataclass(frozen=True, kw_only=True)
class TrialSpec(ModelSettings):
    """One trial."""

    data: str | None = None
    """As for a benchmark; OmitI2V, or for the miniature OmitShapes."""
    scenes: int = 12
    seeds: tuple[int, ...] = (0, 1)
    arms: tuple[str, ...] = ARMS
    loras: tuple[str, ...] = ()
    comfyui: str | None = None
    """Address of a ComfyUI on this machine that makes the clips."""
    workflow: str | None = None
    """The workflow that it runs, in API format with placeholders."""

    def __post_init__(self) -> None:
        if (self.comfyui is None) != (self.workflow is None):
            raise InputError(
                "A trial in ComfyUI needs both --comfyui ADDRESS and --workflow FILE; give both or neither."
            )
        if self.comfyui is not None and (self.loras or self.device or self.dtype or self.offload):
            raise InputError(
                "LoRAs, device, number format and offloading are ComfyUI's own there; put them into the workflow."
            )
        self.bench()

    @property
    def data_name(self) -> str:
        """What was asked for, or what suits the model."""
        return self.data or (OMITSHAPES if self.model in MINIATURES and self.comfyui is None else OMITI2V)

    def bench(self, variants: tuple[str, ...] = (), model: str | None = None) -> BenchSpec:
        """The same as a run of the benchmark. Raises: InputError for a number that is out of range."""
        settings: dict[str, Any] = self.model_settings | {"model": model or self.model}
        return BenchSpec(
            data=self.data_name,
            variants=variants,
            draw=self.scenes,
            shares=False,
            seeds=self.seeds,
            loras=self.loras,
            **settings,
        )
