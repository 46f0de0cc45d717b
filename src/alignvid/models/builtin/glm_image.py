"""GLM-Image: one stack of joint blocks, one norm over [text | video].

What the language model foresaw of the picture is added to the video tokens. The keys of pictures to be edited are
computed before the first step, at noise level 0, and kept: they lie outside every early window and are no stream.
"""

from __future__ import annotations

from alignvid.models.family import Family, KeyNorm, Reads, Site, Stack
from alignvid.models.reading.shapes import patch_grid, text_counts

_SINGLE = Site("single", "attn1", (KeyNorm("norm_k", ("text", "video")),), ignores_mask=True)

FAMILY = Family(
    name="glm_image",
    transformers=("GlmImageTransformer2DModel",),
    pipelines=("GlmImagePipeline",),
    stacks=(Stack("transformer_blocks", (_SINGLE,)),),
    reads=Reads(token_counts=text_counts, grids={"single.video": patch_grid}),
)
