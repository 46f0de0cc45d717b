"""PixArt Alpha and Sigma: self-attention within the picture, cross-attention to the text, no norms on the keys.

The attentions run a norm where there is one, so a neutral one is put in while attached. Both passes of guidance are one
batch.
"""

from __future__ import annotations

from alignvid.models.family import Family, KeyNorm, Reads, Site, Stack, Time
from alignvid.models.reading.shapes import patch_grid


def neutral_norm(stream: str) -> tuple[KeyNorm, ...]:
    """A norm that is put where the attention has none, for the keys of one stream."""
    return (KeyNorm("norm_k", (stream,), sequence_dim=2, is_insertable=True),)


FAMILY = Family(
    name="pixart",
    transformers=("PixArtTransformer2DModel",),
    pipelines=("PixArtAlphaPipeline", "PixArtSigmaPipeline"),
    stacks=(
        Stack(
            "transformer_blocks",
            (Site("self", "attn1", neutral_norm("video")), Site("cross", "attn2", neutral_norm("text"))),
        ),
    ),
    reads=Reads(grids={"self.video": patch_grid}),
    time=Time(batch_order=("uncond", "cond")),
)
