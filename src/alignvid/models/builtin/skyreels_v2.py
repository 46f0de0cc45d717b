"""SkyReels-V2: text-to-video, image-to-video, and diffusion forcing, where each latent frame has a noise level of its
own.

Built as Wan. Image-to-video has CLIP keys of their own norm; diffusion forcing from an image keeps the first latent
frame clean: a prefix of the sequence. A long video is made window by window; there the frame that begins a window is
of the video made before, and stands in the place of the image.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.builtin.wan import CROSS, SELF, SELF_WITH_REFERENCE, clip_grid, text_length_warning, token_counts
from alignvid.models.family import Family, Reads, Stack, class_name
from alignvid.models.reading.shapes import patch_grid

_FROM_IMAGE = ("SkyReelsV2DiffusionForcingImageToVideoPipeline",)


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of the transformer; the pipeline says whether the sequence begins with a reference frame."""
    has_prefix = class_name(pipeline) in _FROM_IMAGE
    return (Stack("blocks", (SELF_WITH_REFERENCE if has_prefix else SELF, CROSS)),)


FAMILY = Family(
    name="skyreels_v2",
    transformers=("SkyReelsV2Transformer3DModel",),
    pipelines=(
        "SkyReelsV2Pipeline",
        "SkyReelsV2ImageToVideoPipeline",
        "SkyReelsV2DiffusionForcingPipeline",
        "SkyReelsV2DiffusionForcingImageToVideoPipeline",
        "SkyReelsV2DiffusionForcingVideoToVideoPipeline",
    ),
    stacks=stacks,
    reads=Reads(
        token_counts=token_counts,
        grids={"cross.image": clip_grid, "self.image": patch_grid, "self.video": patch_grid},
        warning=text_length_warning,
    ),
)
