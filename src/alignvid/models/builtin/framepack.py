"""FramePack v1 (inverted anti-drifting) and F1 (vanilla sampling): HunyuanVideo with packed history.

Tokens lie as [history 4x | history 2x | clean frames | video | SigLIP image | text]. The three kinds of earlier frames,
the input image's clean latent among them, are the stream `history`; `image` are the SigLIP tokens. Text is cropped to
its valid length on the device, so its count is what remains.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from alignvid.models.builtin.hunyuan_video import latent_grid
from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack
from alignvid.models.reading.shapes import embedded_image_grid, patch_grid

# Latent name -> kernel (frames, height, width) of its patch embedding; inputs are padded up to whole kernels.
_HISTORY_KERNELS = {"latents_clean": (1, 2, 2), "latents_history_2x": (2, 4, 4), "latents_history_4x": (4, 8, 8)}


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Video, image and history tokens from shapes; the rest is text."""
    frames, tokens_per_frame = latent_grid(transformer, arguments)
    history = sum(_history_tokens(arguments.get(name), kernel) for name, kernel in _HISTORY_KERNELS.items())
    return {"history": history, "video": frames * tokens_per_frame, "image": arguments["image_embeds"].shape[1]}


def attended(transformer: Any, arguments: Arguments) -> dict[str, Tensor]:
    """Text is cropped for one sample, padded for several."""
    mask = arguments["encoder_attention_mask"]
    return {} if len(mask) == 1 else {"text": mask}


def _history_tokens(latents: Any, kernel: tuple[int, int, int]) -> int:
    if latents is None:
        return 0
    return math.prod(math.ceil(size / step) for size, step in zip(latents.shape[2:], kernel, strict=True))


FAMILY = Family(
    name="framepack",
    transformers=("HunyuanVideoFramepackTransformer3DModel",),
    pipelines=("HunyuanVideoFramepackPipeline",),
    stacks=(
        Stack(
            "transformer_blocks",
            (
                Site(
                    "double",
                    "attn",
                    (KeyNorm("norm_k", ("history", "video")), KeyNorm("norm_added_k", ("image", "text"))),
                    is_joint=True,
                ),
            ),
        ),
        Stack(
            "single_transformer_blocks",
            (Site("single", "attn", (KeyNorm("norm_k", ("history", "video", "image", "text")),)),),
        ),
    ),
    reads=Reads(
        token_counts=token_counts,
        attended=attended,
        grids={  # history is packed from three grids of different steps
            "double.image": embedded_image_grid,
            "double.video": patch_grid,
            "single.image": embedded_image_grid,
            "single.video": patch_grid,
        },
    ),
)
