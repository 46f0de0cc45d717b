"""CogView 3 Plus: one stack of joint blocks, one norm over [text | video], both passes of guidance in one batch."""

from __future__ import annotations

from dataclasses import replace

from alignvid.models.builtin import cogview4
from alignvid.models.family import Time

FAMILY = replace(
    cogview4.FAMILY,
    name="cogview3",
    transformers=("CogView3PlusTransformer2DModel",),
    pipelines=("CogView3PlusPipeline",),
    time=Time(batch_order=("uncond", "cond")),
)
