"""SANA-WM: a video from a first frame, a prompt and the path of a camera.

Most blocks look back on the video by a gated linear recurrence; every few blocks a softmax does, once over the tokens
and once, at the site `camera`, over the same ones seen along the camera's rays. The first latent frame is clean: a
prefix of the tokens. Cross-attention to the text is in all blocks.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack, Time

_VIDEO = ("image", "video")
_CROSS = Site("cross", "cross_attn", (KeyNorm("k_norm", ("text",)),), ignores_mask=True, query_norm="q_norm")
_LINEAR = Site(
    "linear",
    "attn",
    (KeyNorm("k_norm", ("video",)),),
    refusal=(
        "Most blocks of this model have a gated linear recurrence: it has no softmax whose logits a gain on keys could "
        "multiply. Act on cross.text, or on self.* in the other blocks."
    ),
)


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """The last of every few blocks has a softmax; none where the config says 0."""
    every, count = transformer.config.softmax_every_n, len(transformer.blocks)
    blocks = range(every - 1, count, every) if every > 0 else range(0)
    norms = {"self": ("k_norm", "q_norm"), "camera": ("k_norm_cam", "q_norm_cam")}
    softmaxes = tuple(
        Site(name, "attn", (KeyNorm(keys, _VIDEO),), blocks=blocks, ignores_mask=True, query_norm=queries)
        for name, (keys, queries) in norms.items()
        if blocks
    )
    return (Stack("blocks", (*softmaxes, _LINEAR, _CROSS)),)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """The first latent frame, and the rest."""
    frames, height, width = arguments["hidden_states"].shape[2:]
    patch_frames, patch_height, patch_width = transformer.config.patch_size
    frame = (height // patch_height) * (width // patch_width)
    return {"image": frame, "video": (frames // patch_frames - 1) * frame}


def attended(transformer: Any, arguments: Arguments) -> dict[str, Tensor]:
    """Text is padded to one length."""
    mask = arguments.get("mask")
    return {"text": arguments["encoder_attention_mask"] if mask is None else mask}


FAMILY = Family(
    name="sana_wm",
    transformers=("SanaWMTransformer3DModel",),
    pipelines=("SanaWMPipeline",),
    stacks=stacks,
    reads=Reads(token_counts=token_counts, attended=attended),
    time=Time(batch_order=("uncond", "cond")),
)
