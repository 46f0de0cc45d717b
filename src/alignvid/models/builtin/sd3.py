"""Stable Diffusion 3 and 3.5: double-stream blocks only, keys in the order [video | text].

SD3 medium has no norms on its keys; a neutral one is put in their place while a gain acts. SD3.5 medium has in its
first blocks a second attention (`self`) of the picture alone.
"""

from __future__ import annotations

from alignvid.models.family import Family, KeyNorm, Reads, Site, Stack, Time
from alignvid.models.reading.shapes import patch_grid

_DOUBLE = Site(
    "double",
    "attn",
    (
        KeyNorm("norm_k", ("video",), sequence_dim=2, is_insertable=True),
        KeyNorm("norm_added_k", ("text",), sequence_dim=2, is_insertable=True),
    ),
    is_joint=True,
    ignores_mask=True,
)
_SELF = Site("self", "attn2", (KeyNorm("norm_k", ("video",), sequence_dim=2, is_insertable=True),), is_optional=True)

FAMILY = Family(
    name="sd3",
    transformers=("SD3Transformer2DModel",),
    pipelines=(
        "StableDiffusion3Pipeline",
        "StableDiffusion3Img2ImgPipeline",
        "StableDiffusion3InpaintPipeline",
        "StableDiffusion3ControlNetPipeline",
        "StableDiffusion3ControlNetInpaintingPipeline",
    ),
    stacks=(Stack("transformer_blocks", (_DOUBLE, _SELF)),),
    reads=Reads(grids={"double.video": patch_grid, "self.video": patch_grid}),
    time=Time(batch_order=("uncond", "cond")),
)
