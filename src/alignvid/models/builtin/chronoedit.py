"""ChronoEdit: an image is edited as a short video that begins with it. Built as Wan 2.1 image-to-video.

The reference is CLIP keys of their own norm, and latents in the channels.
"""

from __future__ import annotations

from alignvid.models.builtin.wan import CROSS, SELF, clip_grid, reference_channels, text_length_warning
from alignvid.models.family import Family, Reads, Stack
from alignvid.models.reading.shapes import patch_grid

FAMILY = Family(
    name="chronoedit",
    transformers=("ChronoEditTransformer3DModel",),
    pipelines=("ChronoEditPipeline",),
    stacks=(Stack("blocks", (SELF, CROSS)),),
    reads=Reads(
        grids={"cross.image": clip_grid, "self.video": patch_grid},
        reference_channels=reference_channels,
        warning=text_length_warning,
    ),
)
