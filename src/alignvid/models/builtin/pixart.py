"""PixArt Alpha and Sigma: self-attention within the picture, cross-attention to the text, no norms on the keys.

The attentions run a norm where there is one, so a neutral one is put in while attached. Both passes of guidance are one
batch.
"""

from __future__ import annotations

from alignvid.models.family import Family, KeyNorm, Site, Stack, patch_grid


def _norm(stream: str) -> tuple[KeyNorm, ...]:
    return (KeyNorm("norm_k", (stream,), sequence_dim=2, is_insertable=True),)


FAMILY = Family(
    name="pixart",
    transformers=("PixArtTransformer2DModel",),
    pipelines=("PixArtAlphaPipeline", "PixArtSigmaPipeline"),
    stacks=(
        Stack("transformer_blocks", (Site("self", "attn1", _norm("video")), Site("cross", "attn2", _norm("text")))),
    ),
    grids={"self.video": patch_grid},
    batch_order=("uncond", "cond"),
)
