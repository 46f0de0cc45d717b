"""Which metrics exist. One is named by an entry point of the group "alignvid.metrics": a module with a `METRIC`, or the
metric itself; the built-in ones register the same way as those of a third party.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import entry_points

from alignvid.bench.metrics.metric import Metric
from alignvid.errors import InputError
from alignvid.plugins import load_plugin

ENTRY_POINT_GROUP = "alignvid.metrics"


def metric_names() -> list[str]:
    """The names of all metrics, sorted; nothing is imported."""
    return sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)})


def find_metrics(names: Sequence[str]) -> list[Metric]:
    """The metrics of these names, each once, in order.

    Raises: InputError for an unknown name, listing the known ones.
    """
    known = metric_names()
    for name in names:
        if name not in known:
            raise InputError(f"Metric {name!r} does not exist; choose from {', '.join(known)}.")
    if not names:
        raise InputError(f"No metric was named; choose from {', '.join(known)}.")
    return [_installed_metric(name) for name in dict.fromkeys(names)]


@cache
def _installed_metric(name: str) -> Metric:
    return load_plugin(entry_points(group=ENTRY_POINT_GROUP)[name], "METRIC", "metric", InputError)
