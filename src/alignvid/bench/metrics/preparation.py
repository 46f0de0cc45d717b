"""Make metrics ready: find their weights, take their digests, load them; and say of each whether it can run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from alignvid.bench.metrics.metric import Measure, Metric, ProtocolName, Setup
from alignvid.bench.metrics.weights import digest, locate
from alignvid.bench.records import NOT_LOADED
from alignvid.errors import AlignvidError


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A metric that was made ready, or the reason why it could not be."""

    metric: Metric
    measure: Measure | None
    settings: dict[str, Any]
    """All that decides a value besides the video."""
    error: str | None
    """One sentence, if `measure` is None."""

    @property
    def settings_digest(self) -> str:
        """Of the settings, for the records; 16 hexadecimal digits."""
        if self.measure is None:
            return NOT_LOADED
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]


def prepare(
    metric: Metric, *, protocol: ProtocolName, sources: Mapping[str, str], device: str, extra: Mapping[str, Any]
) -> Ready:
    """Load a metric's weights. One that cannot run is no error: the others are loaded.

    Args:
        metric: Which one.
        protocol: Whose definition.
        sources: Paths or Hub ids of weights by name; the metric's defaults where there is none.
        device: Where it computes.
        extra: Other settings that decide values, such as the shape to which videos are stretched.
    """
    try:
        paths = {weights.name: locate(weights, sources.get(weights.name)) for weights in metric.weights}
        measure = metric.prepare(Setup(protocol=protocol, weights=paths, device=device))
    except AlignvidError as error:
        return Ready(metric=metric, measure=None, settings={}, error=str(error))
    settings = {
        "metric": metric.name,
        "protocol": protocol,
        "revision": metric.revision,
        "weights": {weights.name: digest(weights, paths[weights.name]) for weights in metric.weights},
        "versions": _versions(("av", *metric.libraries)),
        "device": device.partition(":")[0],
        **extra,
    }
    return Ready(metric=metric, measure=measure, settings=settings, error=None)


def _versions(distributions: Sequence[str]) -> dict[str, str]:
    return {name: library_version(name) for name in sorted(distributions)}


def library_version(distribution: str) -> str:
    """The version of an installed distribution, for the settings."""
    try:
        return version(distribution)
    except PackageNotFoundError:  # installed under another name, such as opencv-python
        return "unknown"
