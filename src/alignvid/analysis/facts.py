"""The facts that a trace is made of: numbers measured at one place of one run, and attention maps."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

MEASURES = {
    "entropy": "attention entropy in nats",
    "normalised_entropy": "attention entropy as a share of ln(number of keys)",
    "variance": "variance of the logits under the attention weights",
    "slope": "dH/dγ for a further gain of 1 on all keys",
    "energy": "mean of q·k/√d over all pairs",
    "mass": "share of the attention that goes to a stream, in its own softmax",
    "pooled_mass": "share that a stream would have if the site's separate softmaxes were one",
}
"""What is recorded, by name, in words. All are means over the queries of a stream."""


class Fact(NamedTuple):
    """One measured number, or one per head."""

    host: str
    """Attribute of the pipeline that holds the transformer."""
    stack: str
    block: int
    site: str
    section: int
    """Which schedule of the run, from 0: FramePack begins one for each section of a video."""
    step: int
    """Denoising step from 0; -1 where a bare transformer has no schedule to count in."""
    noise_level: float
    """From 1 (pure noise) to 0."""
    branch: str
    """CFG branch: cond, uncond or unknown."""
    query: str
    """Stream of the queries."""
    keys: str
    """Stream that mass goes to; for other measures the streams of the softmax, joined by "+"."""
    measure: str
    values: tuple[float, ...]
    """One per head, or a single one: the mean over heads."""

    @property
    def place(self) -> tuple[Any, ...]:
        """What distinguishes this fact from the others of a run."""
        return (*self[:6], *self[7:11])


class AttentionMap(NamedTuple):
    """How much of the attention of each video token goes to chosen keys, as a mean over heads."""

    name: str
    """What the user called the chosen keys, such as a word."""
    host: str
    stack: str
    block: int
    site: str
    section: int
    step: int
    branch: str
    weights: Float32[np.ndarray, "frame height width"]
    """Per latent frame, in units of patches."""
