"""Nucleus-Image: the picture attends to [video | text]; the text is only looked at, projected anew in every block.

Queries have more heads than keys. Timesteps run 1..0.
"""

from __future__ import annotations

from alignvid.models.family import Family, KeyNorm, Site, Stack, Time

_DOUBLE = Site(
    "double",
    "attn",
    (KeyNorm("norm_k", ("video",)), KeyNorm("norm_added_k", ("text",))),
    is_joint=True,
    ignores_mask=True,
    queries=("video",),
)

FAMILY = Family(
    name="nucleus_image",
    transformers=("NucleusMoEImageTransformer2DModel",),
    pipelines=("NucleusMoEImagePipeline",),
    stacks=(Stack("transformer_blocks", (_DOUBLE,)),),
    time=Time(scale=1.0),
)
