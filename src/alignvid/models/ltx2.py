"""LTX-2: video with sound, from text, from an image, from frames of one's choice or after a reference video.

Six attentions per block, told apart by the attribute that holds them: self- and text cross-attention of the video and
of the audio, and one from each to the other. In image-to-video the first latent frame is clean: a prefix of the video
tokens, as queries and as keys. Conditions on later frames and reference videos are clean tokens behind the sequence,
the stream `condition`. How many frames a condition gives at the beginning only the timesteps tell; they are read once
per run, which is one transfer from the device.
"""

from __future__ import annotations

from typing import Any

from torch.utils.weak import WeakTensorKeyDictionary

from alignvid.models.family import Arguments, Family, KeyNorm, Site, Stack, class_name
from alignvid.models.ltx_video import clean_tokens, frame_grid

_VIDEO_STREAMS = {  # pipeline: streams of the video's keys, where it has not all of them
    "LTX2Pipeline": ("video",),
    "LTX2ImageToVideoPipeline": ("image", "video"),
    "LTX2HDRPipeline": ("video", "condition"),
    "LTX2DFRPipeline": ("video",),  # its slots lie among the video's tokens
    "LTX2DFRTemporalRefinePipeline": ("video",),
}

_clean_prefixes: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of an LTX-2 transformer; the pipeline tells where clean tokens may lie."""
    video = _VIDEO_STREAMS.get(class_name(pipeline), ("image", "video", "condition"))
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
    """Clean tokens before and behind the video, where timesteps are per token; the rest is video."""
    timestep, frame = arguments["timestep"], frame_grid(transformer, arguments)
    if timestep.ndim < 2 or timestep.shape[1] == 1:
        return {"image": 0, "condition": 0}
    tokens = arguments["num_frames"] * frame.height * frame.width
    coordinates = arguments["video_coords"]  # the same tensor at every step
    if coordinates not in _clean_prefixes:
        _clean_prefixes[coordinates] = clean_tokens(timestep[:, :tokens])
    return {"image": _clean_prefixes[coordinates], "condition": timestep.shape[1] - tokens}


FAMILY = Family(
    name="ltx2",
    transformers=("LTX2VideoTransformer3DModel",),
    pipelines=(
        "LTX2Pipeline",
        "LTX2ImageToVideoPipeline",
        "LTX2ConditionPipeline",
        "LTX2InContextPipeline",
        "LTX2HDRPipeline",
    ),
    stacks=stacks,
    token_counts=token_counts,
)
