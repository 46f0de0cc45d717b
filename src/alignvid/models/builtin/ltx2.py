"""LTX-2: video with sound, from text, from an image, from frames of one's choice or after a reference video.

Six attentions per block, each under an attribute of its own: self- and text cross-attention of the video and of the
audio, and one from each to the other. The video's keys lie as [memory | image | video | condition | slots |
reference], of which most pipelines have two or three; each has one timestep per token, 0 or a small one where it is
given and not made:

- `memory`: pictures that Echo is to remember, before the sequence; those of sound, `audio_memory`, before the audio's.
- `image`: clean first latent frames, in their place.
- `condition`: conditions on later frames and reference videos, behind the sequence.
- `slots`: keyframes that DFR makes beside the video, as noisy as that; `reference`: the smaller video behind them,
  which counts as `condition` where no slots lie between.

How many frames are given only the timesteps say; they are read once per run, or at every step with a memory, which is
one transfer from the device. DFR marks slots, and the first frame, by a mask.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from alignvid.models.builtin.ltx_video import clean_ends, frame_grid
from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack, Time, class_name
from alignvid.models.reading.per_tensor import PerTensor

_ECHO = "EchoModularPipeline"
_VIDEO_STREAMS = {  # pipeline: streams of the video's keys, where it has not all of them
    "LTX2Pipeline": ("video",),
    "LTX2ImageToVideoPipeline": ("image", "video"),
    "LTX2ConditionPipeline": ("image", "video", "condition"),
    "LTX2InContextPipeline": ("image", "video", "condition"),
    "LTX2HDRPipeline": ("video", "condition"),
    "LTX2DFRPipeline": ("image", "video", "condition", "slots", "reference"),
    "LTX2DFRTemporalRefinePipeline": ("image", "video", "condition", "slots"),
    _ECHO: ("memory", "image", "video"),
}
_ALL_STREAMS = ("memory", "image", "video", "condition", "slots", "reference")

_given = PerTensor[dict[str, int]]()


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Stacks of an LTX-2 transformer; the pipeline says where clean tokens may lie."""
    is_echo = type(pipeline).__name__ == _ECHO
    name = _ECHO if is_echo else class_name(pipeline)
    video = _VIDEO_STREAMS.get(name, _ALL_STREAMS)
    audio = ("audio_memory", "audio") if is_echo or not name else ("audio",)
    streams = {  # site: attention, streams of its keys, streams that ask where they are not the video's
        "self": ("attn1", video, ()),
        "cross": ("attn2", ("text",), ()),
        "audio_self": ("audio_attn1", audio, audio),
        "audio_cross": ("audio_attn2", ("text",), audio),
        "audio_to_video": ("audio_to_video_attn", audio, ()),
        "video_to_audio": ("video_to_audio_attn", video, audio),
    }
    sites = tuple(
        Site(name, path, (KeyNorm("norm_k", keys),), ignores_mask=True, queries=queries)
        for name, (path, keys, queries) in streams.items()
    )
    return (Stack("transformer_blocks", sites),)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Tokens that are given, or marked as slots, where timesteps are per token; the rest is video."""
    counts: dict[str, int] = dict.fromkeys(("memory", "image", "condition", "slots", "reference"), 0)
    if (frames := arguments.get("audio_num_frames")) is not None:
        counts["audio_memory"] = arguments["audio_hidden_states"].shape[1] - frames
    timestep = arguments["timestep"]
    if timestep.ndim < 2 or timestep.shape[1] == 1:
        return counts
    marks = arguments.get("video_keyframes_mask")
    given = _given.of(  # the same tensor of coordinates at every step, but with a memory
        arguments["video_coords"],
        lambda: _unmarked(transformer, arguments) if marks is None else _marked(timestep, marks),
    )
    return counts | given


def _unmarked(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """What lies before and behind the tokens of the video, whose number is given."""
    timestep, frame = arguments["timestep"], frame_grid(transformer, arguments)
    others = timestep.shape[1] - arguments["num_frames"] * frame.height * frame.width
    ends = clean_ends(timestep)
    memory = others if ends["condition"] == 0 else 0
    return {"memory": memory, "image": ends["image"] - memory, "condition": others - memory}


def _marked(timestep: Tensor, marks: Tensor) -> dict[str, int]:
    """What DFR's marks and timesteps say: the first frame is marked, too, where it is there."""
    levels, is_marked = timestep[0], marks[0].flatten() > 0
    is_given = levels < levels.max()
    is_slot = is_marked & ~is_marked.cumprod(0).bool()
    image = _leading(is_given)
    video = _leading(~(is_given | is_slot)[image:])
    condition = _leading((is_given & ~is_slot)[image + video :])
    slots = int(is_slot.sum())
    reference = len(levels) - image - video - condition - slots
    return {"image": image, "condition": condition, "slots": slots, "reference": reference}


def _leading(flags: Tensor) -> int:
    """How many are true before the first that is not."""
    return int(flags.cumprod(0).sum())


def batch_order(arguments: Arguments) -> tuple[str, ...]:
    """DFR runs no guidance, and several forwards in a step where it works in tiles; others announce their batch."""
    return () if arguments.get("video_keyframes_mask") is None else ("cond",)


WORDS_REFUSAL = "connectors make other tokens of the text encoder's before the transformer is given them."


FAMILY = Family(
    name="ltx2",
    transformers=("LTX2VideoTransformer3DModel",),
    pipelines=(
        "LTX2Pipeline",
        "LTX2ImageToVideoPipeline",
        "LTX2ConditionPipeline",
        "LTX2InContextPipeline",
        "LTX2HDRPipeline",
        "LTX2DFRPipeline",
        "LTX2DFRTemporalRefinePipeline",
        "EchoModularPipeline",
    ),
    stacks=stacks,
    reads=Reads(words_refusal=WORDS_REFUSAL, token_counts=token_counts),
    time=Time(batch_order=batch_order),
)
