"""CogVideoX (text-, image- and video-to-video, control) and ConsisID.

One norm sees [text | video], per head. It is a layer norm with a bias, so the gain stands after it. The reference image
lies in the channels. ConsisID's attention to the face has no norm on its keys and is left alone.
"""

from __future__ import annotations

from alignvid.models.family import Family, KeyNorm, Reads, Site, Stack, Time
from alignvid.models.reading.shapes import patch_grid, text_counts

FAMILY = Family(
    name="cogvideox",
    transformers=("CogVideoXTransformer3DModel", "ConsisIDTransformer3DModel"),
    pipelines=(
        "CogVideoXPipeline",
        "CogVideoXImageToVideoPipeline",
        "CogVideoXVideoToVideoPipeline",
        "CogVideoXFunControlPipeline",
        "ConsisIDPipeline",
    ),
    stacks=(
        Stack(
            "transformer_blocks",
            (Site("single", "attn1", (KeyNorm("norm_k", ("text", "video"), sequence_dim=2),), ignores_mask=True),),
        ),
    ),
    reads=Reads(token_counts=text_counts, grids={"single.video": patch_grid}),
    time=Time(batch_order=("uncond", "cond")),  # ConsisID announces nothing
)
