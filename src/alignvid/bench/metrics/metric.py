"""What a metric is: a name, the weights it needs, and how it is made ready to measure videos."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from alignvid.media.videos import Frames

ProtocolName = Literal["vbench", "released", "native"]
"""Whose definition: VBench's on the video as it is; VBench's on a re-encoded video, as the released evaluation has it;
or ours, VBench's without its roundings and quirks (docs/metrics.md)."""

PROTOCOLS: tuple[ProtocolName, ...] = get_args(ProtocolName)


@dataclass(frozen=True, kw_only=True)
class Footage:
    """One video, decoded once for all metrics, and what it was made from."""

    frames: Frames
    fps: float
    prompt: str
    image: Path | None
    """The reference image's file; None for a prompt alone."""
    sample: str = ""
    """Id of the sample, for metrics that know a data set's samples."""


@dataclass(frozen=True)
class Measurement:
    """A value, and what it was made from."""

    value: float
    details: dict[str, Any] = field(default_factory=dict)
    """Plain data, such as the score of each pair of frames."""


Measure = Callable[[Footage], Measurement]
"""A metric with its weights loaded: the value of one video. Raises: InputError saying why a video has none."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A file or folder of weights that a metric needs."""

    name: str
    """As in `--weights NAME=PATH`."""
    what: str
    """The file in words, for the message that it is missing."""
    default: str | None
    """Where it is taken from unless a path is given: "owner/model" or "owner/model/file" on the Hub, or a URL."""
    has_tensors: bool = True
    """False for a tokenizer, so that no networks are fetched with it."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How a metric must measure."""

    protocol: ProtocolName
    weights: Mapping[str, Path]
    """Resolved, by the names of the metric's `weights`."""
    device: str


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric. An entry point of "alignvid.metrics" names a module that holds it as
    `METRIC`, or the metric itself as "module:NAME".
    """

    name: str
    what: str
    """Its definition in one line."""
    weights: tuple[Weights, ...] = ()
    libraries: tuple[str, ...] = ("numpy",)
    """Distributions whose version can change the value."""
    revision: int = 1
    """Raised when our code gives other values than before."""
    protocols: tuple[ProtocolName, ...] = PROTOCOLS
    """Those under which it is defined."""
    prepare: Callable[[Setup], Measure]
    """Load the weights. Raises: AlignvidError saying what is missing."""
    is_frame_weighted: bool = False
    """Whether VBench's mean over a data set weighs each video by its frames (see `vbench_aggregate`)."""
