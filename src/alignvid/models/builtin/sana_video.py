"""Sana-Video: text-to-video and image-to-video, with linear self-attention.

Linear attention divides by the sum of its weights, which are not exponentials of logits: a gain on all keys cancels,
and one on some of them moves weight instead of sharpening. So self-attention is refused and text cross-attention
acted on.
"""

from __future__ import annotations

from alignvid.models.family import Family, KeyNorm, Site, Stack, Time

REFUSAL = (
    "Self-attention of this model is linear: it has no softmax whose logits a gain on keys could multiply, and on all "
    "keys a gain cancels. Act on cross.text."
)

FAMILY = Family(
    name="sana_video",
    transformers=("SanaVideoTransformer3DModel",),
    pipelines=("SanaVideoPipeline", "SanaImageToVideoPipeline"),
    stacks=(
        Stack(
            "transformer_blocks",
            (
                Site("self", "attn1", (KeyNorm("norm_k", ("video",)),), refusal=REFUSAL),
                Site(
                    "cross",
                    "attn2",
                    (KeyNorm("norm_k", ("text",), is_insertable=True),),
                    text_through=("caption_projection", "caption_norm"),
                ),
            ),
        ),
    ),
    time=Time(batch_order=("uncond", "cond")),
)
