"""Qwen-Image: text-to-image, image-to-image, editing of one or several reference pictures, and taking one into layers.

All blocks are double-stream, with keys in the order [text | video | image]; `image` are the reference pictures of the
editing pipelines. Their text group begins with what the language model made of these pictures, the stream `vision`:
[vision | text | video | image].
"""

from __future__ import annotations

import math
from typing import Any

from alignvid.models.family import Arguments, Family, Grid, KeyNorm, Reads, Site, Stack, Time, class_name
from alignvid.models.reading.vision_tokens import leading_vision, reads_pictures, text_behind_vision, watch

_WITHOUT_REFERENCE = (
    "QwenImagePipeline",
    "QwenImageImg2ImgPipeline",
    "QwenImageInpaintPipeline",
    "QwenImageControlNetPipeline",
    "QwenImageControlNetInpaintPipeline",
)
_READING_PROMPT_ALONE = (*_WITHOUT_REFERENCE, "QwenImageLayeredPipeline")


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """The stack of a Qwen-Image transformer; the pipeline says whether there are reference pictures."""
    pictures = ("video",) if class_name(pipeline) in _WITHOUT_REFERENCE else ("video", "image")
    sees = class_name(pipeline) not in _READING_PROMPT_ALONE and reads_pictures(pipeline)
    text = ("vision", "text") if sees else ("text",)
    norms = (KeyNorm("norm_k", pictures), KeyNorm("norm_added_k", text))
    site = Site("double", "attn", norms, is_joint=True, joint_order=(*text, *pictures), ignores_mask=True)
    return (Stack("transformer_blocks", (site,)),)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int | None]:
    """Tokens of the generated and of the reference pictures, from their shapes; text has what vision tokens leave."""
    generated = _generated_pictures(transformer, arguments)
    sizes = [math.prod(shape) for shape in _shapes(arguments)]
    vision = leading_vision(arguments["encoder_hidden_states"])
    return {"vision": vision, "video": sum(sizes[:generated]), "image": sum(sizes[generated:])}


def picture_grid(transformer: Any, arguments: Arguments) -> Grid:
    """The generated pictures; several layers have one size."""
    return Grid(0, *_shapes(arguments)[0][1:])


def reference_grid(transformer: Any, arguments: Arguments) -> Grid:
    """The first reference picture; several of different size do not lie on one grid."""
    return Grid(0, *_shapes(arguments)[_generated_pictures(transformer, arguments)][1:])


def _shapes(arguments: Arguments) -> list[tuple[int, int, int]]:
    """Frames, rows and columns of every picture of the first sample; ControlNet pipelines give the only one as such."""
    first = arguments["img_shapes"][0]
    return first if isinstance(first, list) else [first]


def _generated_pictures(transformer: Any, arguments: Arguments) -> int:
    """One, but for the layers of Qwen-Image-Layered, whose reference comes last."""
    return len(_shapes(arguments)) - 1 if transformer.config.use_layer3d_rope else 1


FAMILY = Family(
    name="qwen_image",
    transformers=("QwenImageTransformer2DModel",),
    pipelines=(
        "QwenImagePipeline",
        "QwenImageImg2ImgPipeline",
        "QwenImageInpaintPipeline",
        "QwenImageEditPipeline",
        "QwenImageEditInpaintPipeline",
        "QwenImageEditPlusPipeline",
        "QwenImageLayeredPipeline",
        "QwenImageControlNetPipeline",
        "QwenImageControlNetInpaintPipeline",
    ),
    stacks=stacks,
    reads=Reads(
        token_counts=token_counts,
        prompts=text_behind_vision,
        watch=watch,
        grids={"double.video": picture_grid, "double.image": reference_grid},
    ),
    time=Time(scale=1.0),
)
