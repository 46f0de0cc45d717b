"""Jobs: one video each, named by a digest of all that decides it; and tasks, what one call of the pipeline makes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alignvid.bench.data.samples import Sample
from alignvid.bench.runs.variants import Variant
from alignvid.generate.call import Settings

JOB_SCHEMA = 1
"""Raised when the same job would give another video, so that none of the old ones is taken for it."""
_DECISIVE = ("still", "cfg_high", "guider", "node", "budget", "n", "false_yes", "false_no")
"""Settings of a variant that decide its video where they are there."""
_ID_LENGTH = 20
"""Hexadecimal digits: 80 bits, so that two of a billion jobs have one id with a chance of 10⁻⁶."""


@dataclass(frozen=True)
class Job:
    """One video to make."""

    id: str
    sample: Sample
    variant: Variant
    seed: int
    noise_seed: int
    settings: Settings
    """Every number of the call, none left open."""
    image: str | None
    """The reference image's file, relative to the run's folder; None for a prompt alone."""


@dataclass(frozen=True)
class Task:
    """Jobs of one variant and seed that one call of the pipeline makes; one job, or a batch of samples."""

    jobs: tuple[Job, ...]
    followers: tuple[Variant, ...]
    """Variants that come later with the same samples, noise, guidance and image: what they share is kept for them."""

    def alone(self) -> list[Task]:
        """Each of its jobs as a task, to find out in which one something goes wrong."""
        return [Task((job,), ()) for job in self.jobs]


def noise_seed(sample_id: str, seed: int) -> int:
    """The seed of a sample's noise: the same for every variant, another one for every sample.

    With one noise for all samples, three seeds would be three draws of noise in all.
    """
    digest = hashlib.sha256(f"{sample_id}\0{seed}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


def make_job(
    sample: Sample,
    variant: Variant,
    seed: int,
    settings: Settings,
    *,
    image: str | None,
    image_sha256: str | None,
    model: Mapping[str, Any],
    shared: Mapping[str, Any],
) -> Job:
    """The job of a sample, a variant and a seed.

    Args:
        sample: The sample.
        variant: The variant; its name does not decide the video.
        seed: One of the run's.
        settings: Of the call.
        image: The reference image's file in the run's folder; None for a prompt alone.
        image_sha256: Of that file; None without one.
        model: What distinguishes the model from others; its name and place do not count.
        shared: Number format and batch size, which decide how sums are rounded.
    """
    noise = noise_seed(sample.id, seed)
    decisive = {
        "schema": JOB_SCHEMA,
        "sample": sample.id,
        "prompt": sample.prompt,
        "image": image_sha256,
        "recipe": None if variant.recipe is None else variant.recipe.to_dict(),
        "blur": variant.blur or None,
        **{name: value for name in _DECISIVE if (value := getattr(variant, name))},
        "settings": settings.to_dict(),
        "noise_seed": noise,
        "model": dict(model),
        "dtype": shared["dtype"],
        "batch": shared["batch"],
    }
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    return Job(digest[:_ID_LENGTH], sample, variant, seed, noise, settings, image)
