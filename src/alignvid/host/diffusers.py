"""Pipelines of diffusers, normal and modular: all that is known of how they run a model. Nothing is imported from it.

What schedulers say of the running step is read by noise.py, for those of other hosts say it alike or not at all.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from alignvid.errors import UnsupportedModel
from alignvid.host.noise import noise_levels, train_timesteps
from alignvid.host.runner import Runner
from alignvid.models.family import UNCONDITIONAL, class_name
from alignvid.models.registry import check_refused

_RUN_ALL_BUT_LAST = ("LTXI2VLongMultiPromptPipeline", "SanaSprintPipeline", "SanaSprintImg2ImgPipeline")
"""Pipelines that leave out the last timestep, whatever it is."""


def _has_components(model: Any) -> bool:
    return hasattr(model, "components") and not isinstance(model, nn.Module)


def _transformers(pipeline: Any) -> dict[str, nn.Module | None]:
    """Raises: UnsupportedModel for what is no pipeline, or one that is known not to be possible."""
    if not _has_components(pipeline):
        raise UnsupportedModel(
            f"{type(pipeline).__name__} is neither a diffusers pipeline nor a transformer; pass one, as "
            "from_pretrained gives it. docs/hosts.md shows how to describe what else runs a model."
        )
    check_refused(class_name(pipeline))
    return {
        name: module
        for name, module in pipeline.components.items()
        if name in ("transformer", UNCONDITIONAL) or name.startswith("transformer_")
    }


def _begun_scheduler(pipeline: Any) -> Any:
    scheduler: Any = getattr(pipeline, "scheduler", None)
    return scheduler if getattr(scheduler, "num_inference_steps", None) is not None else None


def _levels(pipeline: Any, scheduler: Any) -> list[float]:
    """Where there are as many timesteps as sigmas, the last one is the end, at which nothing is run."""
    timesteps = torch.as_tensor(scheduler.timesteps).float().tolist()
    is_end = len(timesteps) == len(getattr(scheduler, "sigmas", ())) or type(pipeline).__name__ in _RUN_ALL_BUT_LAST
    return noise_levels(timesteps[:-1] if is_end else timesteps, train_timesteps(scheduler))


def _default_levels(pipeline: Any) -> list[float]:
    """Of a modular pipeline; as Echo, which has no scheduler."""
    inputs = getattr(getattr(pipeline, "blocks", None), "inputs", ())
    sigmas = next((parameter.default for parameter in inputs if parameter.name == "sigmas"), None)
    return [float(sigma) for sigma in sigmas or () if sigma > 0.0]


def _guided_pass(pipeline: Any, transformer: str, order: int) -> str | None:
    """What the guider of a transformer calls the pass that is next in this step; None without one. The second pass
    is not always the unconditional one: `SkipLayerGuidance` alone runs "pred_cond" and "pred_cond_skip".
    """
    guider = getattr(pipeline, transformer.replace("transformer", "guider"), None)
    if guider is None or guider.get_state()["step"] is None:  # no guider, or it has not been asked for a step
        return None
    passes = [getattr(batch, guider._identifier_key) for batch in guider.prepare_inputs({})]
    return passes[order] if order < len(passes) else None


def _is_guided(pipeline: Any) -> bool | None:
    says = getattr(pipeline, "do_classifier_free_guidance", None)
    if says is not None:
        return bool(says)
    return None if getattr(pipeline, "guidance_scale", math.inf) > 1.0 else False


_SAY_THEIR_SCALE = ("WanPipeline", "WanImageToVideoPipeline", "WanVACEPipeline", "SkyReelsV2ImageToVideoPipeline")
"""Pipelines whose `guidance_scale` is that of classifier-free guidance, U + s·(C − U), in a pass for each branch."""


def _guidance_scale(pipeline: Any, transformer: str) -> float | None:
    if not {kind.__name__ for kind in type(pipeline).__mro__} & set(_SAY_THEIR_SCALE):
        return None
    second = getattr(pipeline, "_guidance_scale_2", None)
    return second if transformer == "transformer_2" and second is not None else pipeline.guidance_scale


_BEYOND_CONDITIONAL = ("Cosmos", "Krea2", "ZImage")
"""How pipelines are named that take C + s·(C − U), which is U + (s + 1)·(C − U)."""
_SCALE_ALONE_SAYS = ("Allegro", "AuraFlow", "BriaFibo", "CogVideoX", "ConsisID", "Kandinsky5")
"""How pipelines are named that do not say whether they are guided, and whose `guidance_scale` is that of guidance."""


def _guidance_strength(pipeline: Any, transformer: str) -> float | None:
    guider = getattr(pipeline, transformer.replace("transformer", "guider"), None)
    if guider is not None:
        return _number(getattr(guider, "guidance_scale", None)) if guider.num_conditions > 1 else 1.0
    name = type(pipeline).__name__
    is_guided = getattr(pipeline, "do_classifier_free_guidance", name.startswith(_SCALE_ALONE_SAYS) or None)
    if not is_guided:
        return None if is_guided is None else 1.0
    second = getattr(pipeline, "_guidance_scale_2", None) if transformer == "transformer_2" else None
    scale = _number(second if second is not None else getattr(pipeline, "guidance_scale", None))
    if scale is None:
        return None
    return scale + 1.0 if name.startswith(_BEYOND_CONDITIONAL) else scale


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


DIFFUSERS = Runner(
    "diffusers",
    _has_components,
    _transformers,
    scheduler=_begun_scheduler,
    levels=_levels,
    default_levels=_default_levels,
    pass_name=_guided_pass,
    is_guided=_is_guided,
    guidance_scale=_guidance_scale,
    guidance_strength=_guidance_strength,
)
