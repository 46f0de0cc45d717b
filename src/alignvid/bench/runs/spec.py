"""BenchSpec: what a run compares, on what, and how; checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alignvid.bench.data.halves import HALVES, Half
from alignvid.errors import InputError
from alignvid.generate.spec import MINIATURE, MINIATURES, GenerationSpec, ModelSettings
from alignvid.media.images import MAX_PIXELS

_SHARED = ("steps", "guidance", "width", "height", "frames", "fps", "dtype")
"""Settings that decide the videos of every variant; a run's folder holds one value of each."""


@dataclass(frozen=True, kw_only=True)
class BenchSpec(ModelSettings):
    """One run."""

    data: str
    """"omitshapes", "omiti2v", a folder, or a data set's id on the Hub."""
    variants: tuple[str, ...]
    """As they are written on the command line."""
    seeds: tuple[int, ...] = (0,)
    limit: int | None = None
    """The first so many samples only."""
    half: Half | None = None
    """The samples of one half only."""
    max_pixels: int = MAX_PIXELS
    """Limit on a reference image; larger ones are unusable."""
    draw: int | None = None
    """So many samples only, drawn from each main category in turn by a digest of their ids."""
    shares: bool = True
    """Whether variants share what they have in common; without, times are those of whole runs. Videos are the same."""
    loras: tuple[str, ...] = ()
    """Files or Hub ids of LoRA weights, loaded over the model; `transformer_2=FILE` for the second transformer."""
    batch: int = 1
    """Samples in one call of the pipeline; more than one with the miniature only."""
    shard: tuple[int, int] = (0, 1)
    """Which part, of how many, this process runs; the plan is that of all."""
    strict: bool = False
    """Whether a video in which a gain does not act as its recipe says has failed; else that is warned of."""

    def __post_init__(self) -> None:
        _check_seeds(self.seeds)
        if self.limit is not None and self.limit < 1:
            raise InputError(f"limit {self.limit} leaves no sample; choose 1 or more.")
        if self.draw is not None and self.draw < 1:
            raise InputError(f"draw {self.draw} leaves no sample; choose 1 or more.")
        if self.half is not None and self.half not in HALVES:
            raise InputError(f"half {self.half!r} is unknown; choose one of {', '.join(HALVES)}.")
        index, count = self.shard
        if count < 1:
            raise InputError(f"shard {index}/{count} does not exist; give a part of 1 or more, such as 0/2.")
        if not 0 <= index < count:
            raise InputError(
                f"shard {index}/{count} does not exist; shards of {count} are 0/{count} to {count - 1}/{count}."
            )
        if not 1 <= self.batch <= 64 or (self.batch > 1 and self.model not in MINIATURES):
            raise InputError(
                f"batch {self.batch} is out of range; choose 1 to 64 for {MINIATURE!r}, 1 for other models."
            )
        if self.batch > 1 and any(getattr(self, name) is not None for name in ("width", "height", "frames", "fps")):
            raise InputError(
                "A batch has the miniature's own size and length; leave width, height, frames and fps out."
            )
        self.generation()

    def generation(self, **changes: Any) -> GenerationSpec:
        """The generation of one video; image and prompt are stand-ins unless given.

        Raises: InputError for a number that is out of range.
        """
        shared = {**self.model_settings, "max_pixels": self.max_pixels}
        return GenerationSpec(**{"prompt": "a prompt", "image": "image", **shared, **changes})

    @property
    def shared_settings(self) -> dict[str, Any]:
        """What decides the videos of every variant, as it was asked for."""
        return {name: getattr(self, name) for name in (*_SHARED, "max_pixels", "batch")}


def _check_seeds(seeds: Sequence[int]) -> None:
    if not seeds:
        raise InputError("No seed is given; write for example --seed 0,1,2.")
    if wrong := [seed for seed in seeds if not 0 <= seed < 2**31]:
        raise InputError(f"seed {wrong[0]} is out of range; choose 0 to {2**31 - 1:,}.")
    if len(set(seeds)) != len(seeds):
        raise InputError(f"A seed is given twice in {', '.join(map(str, seeds))}; leave one out.")
