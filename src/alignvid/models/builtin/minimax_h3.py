"""MiniMax-H3: video with sound, from text, from first and last frames, or after references of any kind.

One stack of blocks over one packed sequence, [text | image | audio | video]: `image` are all rows that are given,
frames and reference sounds alike. The layout of a run is one tensor of row indices; it is read once, which is one
transfer from the device. Timesteps ascend from 0 at pure noise to 1; guidance is distilled. The pipeline is a modular
one.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack, Time
from alignvid.models.reading.per_tensor import PerTensor

_SINGLE = Site("single", "attn", (KeyNorm("norm_k", ("text", "image", "audio", "video")),), ignores_mask=True)

_counts = PerTensor[dict[str, int]]()


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Rows of each stream, once per layout."""
    return _counts.of(arguments["video_indices"], lambda: _count(arguments))


def _count(arguments: Arguments) -> dict[str, int]:
    """The generated video is the last unbroken run of video rows; generated sound begins at the same point of time."""
    video_rows, audio_rows = arguments["video_indices"].tolist(), arguments["audio_indices"].tolist()
    times = arguments["position_ids"][:, 0].tolist()
    video = next((n for n in range(1, len(video_rows)) if video_rows[-n - 1] != video_rows[-n] - 1), len(video_rows))
    audio = sum(times[row] >= times[video_rows[-video]] for row in audio_rows)
    given = len(video_rows) - video + len(audio_rows) - audio
    return {"text": len(arguments["text_indices"]), "image": given, "audio": audio}


FAMILY = Family(
    name="minimax_h3",
    transformers=("MiniMaxH3Transformer3DModel",),
    pipelines=("MiniMaxH3ModularPipeline",),
    stacks=(Stack("transformer_blocks", (_SINGLE,)),),
    reads=Reads(token_counts=token_counts),
    time=Time(scale=1.0, is_ascending=True),
)
