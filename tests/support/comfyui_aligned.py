"""A MODEL of ComfyUI's Wan through the AlignVid node, and what the same keys are by hand."""

from __future__ import annotations

from typing import Any

import torch

import comfyui_core as core
from comfyui_pack import pack

GAMMA = 1.5
POWERS = {"cross_attn.norm_k": GAMMA**2, "cross_attn.norm_k_img": GAMMA}
STREAMS = "cross.text=2, cross.image=1"


def aligned(
    model: Any, *, measure: bool = False, preset: str = "generic:generic", recipe: Any = None, **widgets: Any
) -> Any:
    """A clone of a MODEL with keys scaled as POWERS says in blocks 0 and 2 at all steps, if not said otherwise."""
    given = {"strength": "gamma", "gamma": GAMMA, "blocks": "0,2", "steps": "all", "streams": STREAMS, **widgets}
    attached = pack("settings").attached
    return pack("patch").patched(
        model, lambda lent: attached(lent, preset, recipe, proof=measure, **given), measures=measure
    )[0]


def step_of(sigmas: list[float], sigma: float) -> int:
    """The step within which a sampler runs the model at this sigma."""
    return max(step for step, first in enumerate(sigmas) if first >= sigma - 1e-6)


def schedule(model: Any, sampler: str = "euler", steps: int = 10) -> list[float]:
    """Sigmas of the steps. Some samplers leave out the last step but one, of one step more."""
    kind = core.comfy.samplers.KSampler
    return kind(model, steps, torch.device("cpu"), sampler, "simple", 1.0, model_options={}).sigmas.tolist()[:-1]
