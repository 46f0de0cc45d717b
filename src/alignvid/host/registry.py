"""Which runners exist, and which one runs a given model.

One that was registered in this process goes first, then those of installed packages: a module-level `RUNNER` in a
module named by an entry point of the group "alignvid.hosts". Last come the built-in ones, because a host of another
library may be an `nn.Module` or have `components`, too.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any

from alignvid.errors import UnsupportedModel
from alignvid.host.bare import BARE
from alignvid.host.diffusers import DIFFUSERS
from alignvid.host.runner import Runner
from alignvid.plugins import load_plugin

ENTRY_POINT_GROUP = "alignvid.hosts"

_registered: dict[str, Runner] = {}


def register(runner: Runner) -> None:
    """Make a runner known in this process, without packaging it. It goes before an installed one."""
    _registered[runner.name] = runner


def runner_of(model: Any) -> Runner:
    """The runner that recognises a model. What none does is taken for a pipeline of diffusers, which refuses it with a
    sentence; None stands for a bare transformer, as in `pipeline_of`.
    """
    if model is None:
        return BARE
    candidates = (*_registered.values(), *_installed(), BARE)
    return next((runner for runner in candidates if runner.recognises(model)), DIFFUSERS)


def pipeline_of(model: Any) -> Any:
    """What says step and pass of a model's forwards: the model, or None for a bare transformer."""
    return None if runner_of(model).is_silent else model


def silent_passes(model: Any) -> tuple[str, ...]:
    """Passes of a step of a model that says neither step nor pass, in their order; empty where its host knows none."""
    runner = runner_of(model)
    return runner.passes if runner.is_silent else ()


@cache
def _installed() -> tuple[Runner, ...]:
    points = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name)
    return tuple(load_plugin(point, "RUNNER", "host", UnsupportedModel) for point in points)
