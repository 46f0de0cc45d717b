"""CogVideoX (text-, image- and video-to-video, control) and ConsisID.

One norm sees [text | video], per head. It is a layer norm with a bias, so the gain stands after it. The reference image
lies in the channels. ConsisID's attention to the face has no norm on its keys and is left alone.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.family import Arguments, Family, Grid, KeyNorm, Site, Stack


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Text from its embeddings; the rest is video."""
    return {"text": arguments["encoder_hidden_states"].shape[1]}


def frame_grid(transformer: Any, arguments: Arguments) -> Grid:
    """The tokens of one latent frame, or of the frames that are patched together."""
    height, width = arguments["hidden_states"].shape[-2:]
    patch = transformer.config.patch_size
    return Grid(0, height // patch, width // patch)


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
    token_counts=token_counts,
    grids={"single.video": frame_grid},
    batch_order=("uncond", "cond"),  # ConsisID announces nothing
)
