"""Guiders of diffusers, other ways to put the passes of guidance together, on a pipeline's own models.

A normal pipeline of diffusers knows classifier-free guidance alone; its modular pipelines take any guider. So the
models of a loaded pipeline are lent to the modular one of its kind, which runs the same loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple

from alignvid.errors import InputError, MissingExtra
from alignvid.models.paths import blocks_of

_BLOCKS = {"WanPipeline": "WanBlocks", "WanImageToVideoPipeline": "WanImage2VideoAutoBlocks"}
"""Modular blocks of diffusers, by the pipeline that they do the work of."""
_STACK = "blocks"


@dataclass(frozen=True)
class _Guider:
    """One of diffusers' guiders."""

    kind: str
    """Name of its class."""
    layers: str = ""
    """Its setting for the blocks that it disturbs; empty if it disturbs none. It gets the middle one."""
    scale: str = "guidance_scale"


GUIDERS = {
    "cfg": _Guider("ClassifierFreeGuidance"),
    "apg": _Guider("AdaptiveProjectedGuidance"),
    "cfg-zero": _Guider("ClassifierFreeZeroStarGuidance"),
    "tcfg": _Guider("TangentialClassifierFreeGuidance"),
    "mag": _Guider("MagnitudeAwareGuidance"),
    "fdg": _Guider("FrequencyDecoupledGuidance", scale="guidance_scales"),
    "slg": _Guider("SkipLayerGuidance", "skip_layer_guidance_layers"),
    "seg": _Guider("SmoothedEnergyGuidance", "seg_guidance_layers"),
    "pag": _Guider("PerturbedAttentionGuidance", "perturbed_guidance_layers"),
}
"""By short name; all numbers but the scale are diffusers' own."""


def check_guider(name: str, pipeline_class: type, guidance: float | None, *, has_two: bool) -> None:
    """Refuse a guider that is unknown, or cannot run on this pipeline.

    Args:
        name: of the guider.
        pipeline_class: of the loaded pipeline.
        guidance: the scale that it is given.
        has_two: whether there is a transformer for each half of the noise levels.

    Raises: InputError naming what is wrong; MissingExtra for one that needs another package.
    """
    if name not in GUIDERS:
        raise InputError(f"The guider {name!r} is unknown; choose one of {', '.join(GUIDERS)}.")
    if pipeline_class.__name__ not in _BLOCKS or has_two:
        raise InputError(
            f"guider={name} is for {' and '.join(_BLOCKS)} with one transformer, whose models a modular pipeline of "
            f"diffusers can run; {pipeline_class.__name__}{' here has two' if has_two else ' is another'}."
        )
    if guidance is None or guidance <= 1:
        raise InputError(f"guider={name} has nothing to guide at guidance {guidance}; add guidance=5.")
    if name == "fdg" and find_spec("kornia") is None:
        raise MissingExtra("The guider 'fdg' of diffusers needs kornia; install it: pip install kornia.")


def guided_pipeline(pipeline: Any, name: str, guidance: float) -> Any:
    """The modular pipeline with a guider on the models of a pipeline; see `check_guider`."""
    from diffusers import guiders, modular_pipelines

    blocks = getattr(modular_pipelines, _BLOCKS[type(pipeline).__name__])()
    modular = blocks.init_pipeline()
    modular.__class__ = _sized_by_config(type(modular))
    known = GUIDERS[name]
    settings: dict[str, Any] = {known.scale: [guidance, guidance] if known.scale == "guidance_scales" else guidance}
    if known.layers:
        settings[known.layers] = [len(blocks_of(pipeline.transformer, _STACK)) // 2]
    parts = {**pipeline.components, "image_processor": pipeline.components.get("image_processor")}
    wanted = {spec.name for spec in blocks.expected_components}
    lent = {part: module for part, module in parts.items() if part in wanted and module is not None}
    modular.update_components(**lent, guider=getattr(guiders, known.kind)(**settings))
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
