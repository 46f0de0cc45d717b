"""Wan Animate: a person of a reference image moves as in a driving video.

Built as Wan 2.1 image-to-video, with the reference as the first latent frame: a prefix of the sequence. After every
fifth block the video attends to the face's motion, frame by frame: the stack `face_adapter`, with the stream `face`.
"""

from __future__ import annotations

from alignvid.models.builtin.wan import CROSS, SELF_WITH_REFERENCE, clip_grid, text_length_warning, token_counts
from alignvid.models.family import Family, KeyNorm, Reads, Site, Stack
from alignvid.models.reading.shapes import patch_grid

FAMILY = Family(
    name="wan_animate",
    transformers=("WanAnimateTransformer3DModel",),
    pipelines=("WanAnimatePipeline",),
    stacks=(
        Stack("blocks", (SELF_WITH_REFERENCE, CROSS)),
        # keys of (batch, frames, tokens, heads, head size)
        Stack("face_adapter", (Site("face", "", (KeyNorm("norm_k", ("face",), sequence_dim=2),), queries=("video",)),)),
    ),
    reads=Reads(
        token_counts=token_counts,
        grids={"cross.image": clip_grid, "self.image": patch_grid, "self.video": patch_grid},
        warning=text_length_warning,
    ),
)
