"""DiffSynth's pipelines, whose loop calls `model_fn` and never a transformer: one such as Flux, or Wan 2.2's two.

A step runs the prompt, then the negative one. The scheduler holds the timesteps of the run and says no step. Written
against diffsynth 2.1.12.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from alignvid.host.runner import Door, Runner

_MODELS = ("dit", "dit2")


def _recognises(model: Any) -> bool:
    is_theirs = any(kind.__module__.partition(".")[0] == "diffsynth" for kind in type(model).__mro__)
    return is_theirs and hasattr(model, "model_fn")


def _transformers(model: Any) -> dict[str, nn.Module | None]:
    return {name: getattr(model, name) for name in _MODELS if hasattr(model, name)}


RUNNER = Runner("DiffSynth", _recognises, _transformers, door=Door("model_fn", transformer="dit"))
