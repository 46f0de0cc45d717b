"""SkyReels-V2's own repository: `Text2VideoPipeline`, `Image2VideoPipeline` and diffusion forcing.

The scheduler of the first two holds the timesteps of the run. Diffusion forcing runs copies of it, one for each latent
frame, so that only noise levels are known there.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from alignvid.host.runner import Runner


def _recognises(model: Any) -> bool:
    is_theirs = type(model).__module__.partition(".")[0] == "skyreels_v2_infer" and not isinstance(model, nn.Module)
    return is_theirs and hasattr(model, "transformer")


def _transformers(model: Any) -> dict[str, nn.Module | None]:
    return {"transformer": model.transformer}


RUNNER = Runner("SkyReels-V2", _recognises, _transformers)
