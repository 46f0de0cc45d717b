"""PRX: the picture attends to [text | video]; the text is only looked at and passes the blocks unchanged.

Both kinds of key have a norm of their own. Timesteps run 1..0, and both passes of guidance are one batch.
"""

from __future__ import annotations

from alignvid.models.family import Family, KeyNorm, Reads, Site, Stack, Time
from alignvid.models.reading.shapes import patch_grid

_DOUBLE = Site(
    "double",
    "attention",
    (KeyNorm("norm_k", ("video",), sequence_dim=2), KeyNorm("norm_added_k", ("text",), sequence_dim=2)),
    is_joint=True,
    joint_order=("text", "video"),
    ignores_mask=True,
    queries=("video",),
)

FAMILY = Family(
    name="prx",
    transformers=("PRXTransformer2DModel",),
    pipelines=("PRXPipeline", "PRXPixelPipeline"),
    stacks=(Stack("blocks", (_DOUBLE,)),),
    reads=Reads(grids={"double.video": patch_grid}),
    time=Time(scale=1.0, batch_order=("uncond", "cond")),
)
