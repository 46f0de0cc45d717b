"""Guiders of diffusers, other ways to put the passes of guidance together, on a pipeline's own models.

A normal pipeline of diffusers knows classifier-free guidance alone; its modular pipelines take any guider. So the
models of a loaded pipeline are lent to the modular one of its kind, which runs the same loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from alignvid.errors import InputError
from alignvid.models.paths import blocks_of

_BLOCKS = {"WanPipeline": "WanBlocks", "WanImageToVideoPipeline": "WanImage2VideoAutoBlocks"}
"""Modular blocks of diffusers, by the pipeline that they do the work of."""
_STACK = "blocks"
_MIDDLE = 0  # stands for the number of the middle block until a model is there


@dataclass(frozen=True)
class _Guider:
    """One of diffusers' guiders."""

    kind: str
    """Name of its class."""
    disturbs: tuple[str, str] | None = None
    """Its setting for the block that it disturbs, the middle one, and the class of that; None if it disturbs none."""
    chosen: tuple[tuple[str, float], ...] = ()
    """Numbers in place of diffusers' own, where those make it plain guidance."""

    def made(self, guidance: float, block: int) -> Any:
        """The guider. All numbers but these two, and what is chosen above, are diffusers' own."""
        from diffusers import guiders, hooks

        settings: dict[str, Any] = {"guidance_scale": guidance, **dict(self.chosen)}
        if self.disturbs is not None:
            name, kind = self.disturbs
            settings[name] = getattr(hooks, kind)(indices=[block], fqn=_STACK)
        return getattr(guiders, self.kind)(**settings)


_AS_PUBLISHED = (("eta", 0.0), ("adaptive_projected_guidance_momentum", -0.5))
"""Of arXiv 2410.02416; diffusers' own are 1 and no momentum, which is plain guidance while predictions are small."""
GUIDERS = {
    "cfg": _Guider("ClassifierFreeGuidance"),
    "apg": _Guider("AdaptiveProjectedGuidance", chosen=_AS_PUBLISHED),
    "cfg-zero": _Guider("ClassifierFreeZeroStarGuidance"),
    "tcfg": _Guider("TangentialClassifierFreeGuidance"),
    "slg": _Guider("SkipLayerGuidance", ("skip_layer_config", "LayerSkipConfig")),
}
"""By short name."""
_NOT_ON_WAN = {
    "fdg": "FrequencyDecoupledGuidance takes pictures alone",
    "mag": "MagnitudeAwareGuidance fails on a video",
    "pag": "PerturbedAttentionGuidance fails on its attention",
    "seg": "the disturbed pass of SmoothedEnergyGuidance is the plain one, bit by bit",
}
"""Those that diffusers 0.42.1 has and that do not work on Wan there."""


def check_guider(
    name: str, pipeline_class: type, index: Mapping[str, Any], *, guidance: float | None, steps: int | None
) -> None:
    """Refuse a guider that is unknown, cannot run on this pipeline, or would do nothing.

    Args:
        name: of the guider.
        pipeline_class: of the loaded pipeline.
        index: the model's `model_index.json`.
        guidance: the scale that it is given.
        steps: how many there are; None if that is not known.

    Raises: InputError naming what is wrong.
    """
    if name not in GUIDERS:
        reason = f"does not work on Wan in diffusers: {_NOT_ON_WAN[name]}" if name in _NOT_ON_WAN else "is unknown"
        raise InputError(f"The guider {name!r} {reason}; choose one of {', '.join(GUIDERS)}.")
    if (problem := _problem(pipeline_class, index)) is not None:
        raise InputError(
            f"guider={name} is for {' and '.join(_BLOCKS)} with one transformer, whose models a modular pipeline of "
            f"diffusers can run; {pipeline_class.__name__} {problem}."
        )
    if guidance is None or guidance <= 1:
        raise InputError(f"guider={name} has nothing to guide at guidance {guidance}; add guidance=5.")
    if steps is not None and GUIDERS[name].disturbs and not _third_passes(name, guidance, steps):
        raise InputError(
            f"guider={name} begins after the first step and ends after a fifth of them, which is none of {steps}; give "
            "10 steps or more."
        )


def _problem(pipeline_class: type, index: Mapping[str, Any]) -> str | None:
    if pipeline_class.__name__ not in _BLOCKS:
        return "is another"
    if (index.get("transformer_2") or [None, None])[1] is not None:
        return "here has two"
    return "here has a timestep for each token" if index.get("expand_timesteps") else None


def _third_passes(name: str, guidance: float, steps: int) -> int:
    """In how many steps a guider runs a pass with a block disturbed."""
    guider, count = GUIDERS[name].made(guidance, _MIDDLE), 0
    for step in range(steps):
        guider.set_state(step=step, num_inference_steps=steps, timestep=None)
        count += guider.num_conditions > 2
    return count


def guided_pipeline(pipeline: Any, name: str, guidance: float) -> Any:
    """The modular pipeline with a guider on the models of a pipeline; see `check_guider`."""
    from diffusers import modular_pipelines

    blocks = getattr(modular_pipelines, _BLOCKS[type(pipeline).__name__])()
    modular = blocks.init_pipeline()
    modular.__class__ = _sized_by_config(type(modular))
    guider = GUIDERS[name].made(guidance, len(blocks_of(pipeline.transformer, _STACK)) // 2)
    wanted = {spec.name for spec in blocks.expected_components}
    lent = {part: module for part, module in pipeline.components.items() if part in wanted and module is not None}
    modular.update_components(**lent, guider=guider)
    modular.set_progress_bar_config(disable=True)
    return modular


def _sized_by_config(kind: type) -> type:
    """The same pipeline with the autoencoder's scale as its config says it, which the normal one reads; the modular
    one guesses it from the number of its stages.
    """
    members = {
        "vae_scale_factor_spatial": property(lambda self: self.vae.config.scale_factor_spatial),
        "vae_scale_factor_temporal": property(lambda self: self.vae.config.scale_factor_temporal),
    }
    return type(kind.__name__, (kind,), members)


class Guided(NamedTuple):
    """What a modular pipeline has made, in the form of a normal one's output."""

    frames: Any


def run_guided(modular: Any, arguments: dict[str, Any]) -> Guided:
    """A modular pipeline called with a normal one's arguments; its guider has the scale."""
    given = {name: value for name, value in arguments.items() if name != "guidance_scale"}
    return Guided(modular(**given, output="videos"))
