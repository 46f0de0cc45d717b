"""Kandinsky 6: video with sound, from text or from an image.

Six attentions per block, as in LTX-2, with norms called query_norm and key_norm. The reference image is a clean latent
frame put behind the others: a suffix of the video tokens.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.builtin.kandinsky5 import frame_grid
from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack

_STREAMS = {  # site: attention, streams of its keys, streams that ask where they are not the video's
    "self": ("video_dec_block.self_attention", ("video", "image"), ()),
    "cross": ("video_dec_block.cross_attention", ("text",), ()),
    "audio_self": ("audio_dec_block.self_attention", ("audio",), ("audio",)),
    "audio_cross": ("audio_dec_block.cross_attention", ("text",), ("audio",)),
    "audio_to_video": ("va_cross_attention", ("audio",), ()),
    "video_to_audio": ("av_cross_attention", ("video", "image"), ("audio",)),
}


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """One latent frame of reference tokens where frames have types; the rest is video."""
    frame = frame_grid(transformer, arguments)
    has_reference = arguments.get("visual_token_type_ids") is not None
    return {"image": frame.height * frame.width if has_reference else 0}


FAMILY = Family(
    name="kandinsky6",
    transformers=("Kandinsky6Transformer3DModel",),
    pipelines=("Kandinsky6TI2VAPipeline",),
    stacks=(
        Stack(
            "visual_transformer_blocks",
            tuple(
                Site(
                    name,
                    path,
                    (KeyNorm("key_norm", streams),),
                    query_norm="query_norm",
                    ignores_mask=True,
                    queries=queries,
                )
                for name, (path, streams, queries) in _STREAMS.items()
            ),
        ),
    ),
    reads=Reads(token_counts=token_counts),
)
