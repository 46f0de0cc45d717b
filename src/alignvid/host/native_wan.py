"""Wan's own repositories: `WanT2V`, `WanI2V`, `WanFLF2V`, `WanVace` and `WanTI2V`; one model, or 2.2's two experts.

Their `generate` keeps its scheduler to itself, so that `attach(…, schedule=…)` must say the steps as it runs them:
`FlowSchedule(steps=40, shift=5.0)` for sampling_steps=40 and shift=5.0. A step runs the prompt, then the negative one.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from alignvid.host.runner import Runner, nothing_known

_MODELS = ("model", "high_noise_model", "low_noise_model")


def _transformers(model: Any) -> dict[str, nn.Module | None]:
    return {name: getattr(model, name) for name in _MODELS if hasattr(model, name)}


def _recognises(model: Any) -> bool:
    is_theirs = type(model).__module__.partition(".")[0] == "wan" and not isinstance(model, nn.Module)
    return is_theirs and bool(_transformers(model))


RUNNER = Runner("native Wan", _recognises, _transformers, scheduler=nothing_known, is_silent=True)
