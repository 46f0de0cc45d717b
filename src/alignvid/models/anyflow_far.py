"""AnyFlow FAR: video chunk by chunk, each looking back on the chunks before by keys that were kept.

Built as AnyFlow. After each chunk one forward at noise level 0 computes the keys of self-attention that all later
chunks use: a gain on them would act outside its window, so it is refused, and text cross-attention acted on.
"""

from __future__ import annotations

from alignvid.models.family import Family, KeyNorm, Site, Stack

REFUSAL = (
    "This model computes the keys of a finished chunk once and keeps them for all later ones: a gain on them would act "
    "outside its window. Act on cross.text, or use AnyFlowPipeline."
)

FAMILY = Family(
    name="anyflow_far",
    transformers=("AnyFlowFARTransformer3DModel",),
    pipelines=("AnyFlowFARPipeline",),
    stacks=(
        Stack(
            "blocks",
            (
                Site("self", "attn1", (KeyNorm("norm_k", ("video",)),), refusal=REFUSAL),
                Site("cross", "attn2", (KeyNorm("norm_k", ("text",)),)),
            ),
        ),
    ),
    batch_order=("uncond", "cond"),
)
