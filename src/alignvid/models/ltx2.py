"""LTX-2: video with sound, from text or from an image.

Six attentions per block, told apart by the attribute that holds them: self- and text cross-attention of the video and
of the audio, and one from each to the other. In image-to-video the first latent frame is clean: a prefix of the video
tokens, as queries and as keys.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.family import Arguments, Family, KeyNorm, Site, Stack, class_name
from alignvid.models.ltx_video import frame_grid

_FROM_TEXT = ("LTX2Pipeline",)


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of an LTX-2 transformer; the pipeline tells whether the video begins with the reference."""
    video = ("video",) if class_name(pipeline) in _FROM_TEXT else ("image", "video")
    streams = {  # site: attention, streams of its keys
        "self": ("attn1", video),
        "cross": ("attn2", ("text",)),
        "audio_self": ("audio_attn1", ("audio",)),
        "audio_cross": ("audio_attn2", ("text",)),
        "audio_to_video": ("audio_to_video_attn", ("audio",)),
        "video_to_audio": ("video_to_audio_attn", video),
    }
    sites = tuple(
        Site(name, path, (KeyNorm("norm_k", keys),), ignores_mask=True) for name, (path, keys) in streams.items()
    )
    return (Stack("transformer_blocks", sites),)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """One latent frame of reference tokens where timesteps are per token; the rest is video."""
    if arguments["timestep"].ndim < 2 or arguments["timestep"].shape[1] == 1:
        return {"image": 0}
    frame = frame_grid(transformer, arguments)
    return {"image": frame.height * frame.width}


FAMILY = Family(
    name="ltx2",
    transformers=("LTX2VideoTransformer3DModel",),
    pipelines=("LTX2Pipeline", "LTX2ImageToVideoPipeline"),
    stacks=stacks,
    token_counts=token_counts,
)
