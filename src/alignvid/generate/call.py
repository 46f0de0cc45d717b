"""From a spec to the arguments that a pipeline's call accepts, and from its output to frames.

Only the pipeline's class and config are looked at, so that a mistake is reported before the weights are read.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from alignvid.errors import InputError
from alignvid.generate.spec import SIDE_MULTIPLE, GenerationSpec
from alignvid.media.images import fit_image
from alignvid.media.videos import Frames

_IMAGE_PARAMETERS = ("image", "reference_images")
_IMAGE_IS_OPTIONAL = (
    "Cosmos3OmniPipeline",
    "FluxKontextPipeline",
    "Flux2Pipeline",
    "Flux2KleinPipeline",
    "Flux2KleinKVPipeline",
)
_DEFAULT_FPS = 24.0
_FRAMEPACK = "HunyuanVideoFramepackPipeline"

# Frame rates that the models were trained at, from their model cards; what is not listed has 24.
_FPS = {"WanPipeline": 16.0, "WanImageToVideoPipeline": 16.0, "WanVACEPipeline": 16.0, _FRAMEPACK: 30.0}
_FPS_TI2V_5B = 24.0
_FRAMEPACK_AREA = 640 * 640  # its training buckets; the pipeline's own default is HunyuanVideo's 720p


@dataclass(frozen=True)
class Settings:
    """The numbers of one generation, none left open. None: this pipeline has no such setting."""

    width: int
    height: int
    frames: int | None
    steps: int
    guidance: float | None
    fps: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the record."""
        return asdict(self)


@dataclass(frozen=True)
class Defaults:
    """What a model suggests where a spec leaves a number open."""

    width: int
    height: int
    frames: int | None
    steps: int
    guidance: float | None
    fps: float
    keeps_shape: bool = True
    """Whether the picture's own shape is kept at the same area, or the size is fixed."""


def defaults_of(pipeline_class: type, config: Mapping[str, Any]) -> Defaults:
    """The pipeline's own defaults, read from its signature, and the frame rate it was trained at."""
    parameters = _parameters(pipeline_class)
    width, height = _default(parameters, "width", 1024), _default(parameters, "height", 1024)
    name = pipeline_class.__name__
    if name == _FRAMEPACK:
        width = height = math.isqrt(_FRAMEPACK_AREA)
    return Defaults(
        width=width,
        height=height,
        frames=_default(parameters, "num_frames", None),
        steps=_default(parameters, "num_inference_steps", 50),
        guidance=_default(parameters, _guidance_name(parameters), None),
        fps=_FPS_TI2V_5B if config.get("expand_timesteps") else _FPS.get(name, _DEFAULT_FPS),
    )


def settle(spec: GenerationSpec, defaults: Defaults, image: Image.Image | None) -> Settings:
    """Every number of the generation: the spec's, or the model's default; the size follows the image's shape."""
    width, height = spec.width or defaults.width, spec.height or defaults.height
    if spec.width is None and image is not None and defaults.keeps_shape:
        width, height = size_of_shape(image.width / image.height, defaults.width * defaults.height)
    return Settings(
        width=width,
        height=height,
        frames=defaults.frames if spec.frames is None else spec.frames,
        steps=defaults.steps if spec.steps is None else spec.steps,
        guidance=defaults.guidance if spec.guidance is None else spec.guidance,
        fps=defaults.fps if spec.fps is None else spec.fps,
    )


def size_of_shape(aspect: float, area: int) -> tuple[int, int]:
    """Width and height of about this area and this width/height ratio, both multiples of 16."""
    return _nearest_side(math.sqrt(area * aspect)), _nearest_side(math.sqrt(area / aspect))


def check_accepts(pipeline_class: type, spec: GenerationSpec) -> None:
    """Refuse what the pipeline's call has no parameter for, and an image too many or too few.

    Raises: InputError naming the option.
    """
    parameters, name = _parameters(pipeline_class), pipeline_class.__name__
    image_parameter = _image_parameter(parameters)
    if spec.image is not None and image_parameter is None:
        raise InputError(f"{name} takes no image, but {spec.image!r} was given; leave it out, or choose another model.")
    if spec.image is None and image_parameter == "image" and name not in _IMAGE_IS_OPTIONAL:
        raise InputError(f"{name} needs a reference image; give one with --image.")
    needs = {"num_frames": spec.frames, "negative_prompt": spec.negative_prompt, "width": spec.width}
    needs[_guidance_name(parameters)] = spec.guidance
    for parameter, value in needs.items():
        if value is not None and parameter not in parameters:
            option = {"num_frames": "frames"}.get(parameter, parameter)
            raise InputError(f"{name} does not accept {option}, but {value!r} was given; leave it out.")


def call_arguments(
    pipeline_class: type, spec: GenerationSpec, settings: Settings, image: Image.Image | None
) -> dict[str, Any]:
    """Keyword arguments of the pipeline's call, without the generator."""
    parameters = _parameters(pipeline_class)
    arguments = {
        "prompt": spec.prompt,
        "negative_prompt": spec.negative_prompt or None,
        "width": settings.width,
        "height": settings.height,
        "num_frames": settings.frames,
        "num_inference_steps": settings.steps,
        _guidance_name(parameters): settings.guidance,
        "output_type": "np",
    }
    if image is not None and (name := _image_parameter(parameters)):
        fitted = fit_image(image, settings.width, settings.height)
        arguments[name] = fitted if name == "image" else [fitted]
    return {name: value for name, value in arguments.items() if name in parameters and value is not None}


def frames_of(output: Any) -> Frames:
    """A pipeline's output as 8-bit RGB frames; an image is a video of one frame.

    Raises: InputError if a value is not a number.
    """
    if hasattr(output, "video"):  # of Cosmos 3, which makes one at a time
        raw = output.video
    else:
        raw = output.frames[0] if hasattr(output, "frames") else output.images[:1]
    frames = np.asarray(raw)
    if not np.isfinite(frames).all():
        raise InputError(
            "The model gave values that are not numbers, which is what an overflow looks like; "
            "choose dtype 'bfloat16' or 'float32', or a smaller gamma."
        )
    return np.round(np.clip(frames, 0, 1) * 255).astype(np.uint8)


def token_limit(pipeline_class: type) -> int | None:
    """Tokens that the pipeline passes to its text encoder, if it says so."""
    return _default(_parameters(pipeline_class), "max_sequence_length", None)


def ignores_negative_prompt(pipeline_class: type, settings: Settings) -> bool:
    """Whether there is no unconditional pass for it to act in: guidance 1 or less, or guidance that is distilled."""
    parameters = _parameters(pipeline_class)
    is_distilled = "true_cfg_scale" in parameters and _guidance_name(parameters) == "guidance_scale"
    return is_distilled or settings.guidance is None or settings.guidance <= 1


def _nearest_side(pixels: float) -> int:
    return max(SIDE_MULTIPLE, round(pixels / SIDE_MULTIPLE) * SIDE_MULTIPLE)


def _parameters(pipeline_class: type) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(pipeline_class.__call__).parameters


def _default(parameters: Mapping[str, inspect.Parameter], name: str, otherwise: Any) -> Any:
    default = parameters[name].default if name in parameters else None
    return otherwise if default in (None, inspect.Parameter.empty) else default


def _guidance_name(parameters: Mapping[str, inspect.Parameter]) -> str:
    """Where there are two, the one with a default: Qwen-Image leaves open what only a distilled model would read."""
    is_open = "true_cfg_scale" in parameters and _default(parameters, "guidance_scale", None) is None
    return "guidance_scale" if "guidance_scale" in parameters and not is_open else "true_cfg_scale"


def _image_parameter(parameters: Mapping[str, inspect.Parameter]) -> str | None:
    return next((name for name in _IMAGE_PARAMETERS if name in parameters), None)
