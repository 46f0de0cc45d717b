"""Cosmos 3: pictures and videos from text, frames or control videos, with sound or with a robot's actions.

One transformer reads the prompt and makes the video: text tokens look back on each other, in a causal softmax of their
own, and the generated ones look at [text | image | video | audio | action]. `image` are the clean frames before the
first noisy one, those of control videos among them; a condition on a later frame counts as video. Where keys of the
text are normed once more for the generated tokens, they are acted on there: else that norm would undo the gain. Which
frames are clean is a tensor; it is read once per run and branch, which is one transfer from the device.
"""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Any

from torch import Tensor

from alignvid.errors import AttachmentError
from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack, Time
from alignvid.models.reading.per_tensor import PerTensor

_first_noisy = PerTensor[int]()


def stacks(transformer: Any, pipeline: Any) -> tuple[Stack, ...]:
    """Which streams there are depends on what the transformer makes."""
    config = transformer.config
    has_own_norm = config.use_und_k_norm_for_gen and not config.qk_norm_for_text
    extra = (("audio",) if config.sound_gen else ()) + (("action",) if config.action_gen else ())
    keys = (
        KeyNorm("k_norm_und_for_gen" if has_own_norm else "norm_k", ("text",), sequence_dim=0),
        KeyNorm("norm_added_k", ("image", "video", *extra), sequence_dim=0),
    )
    site = Site("double", "self_attn", keys, is_joint=True, ignores_mask=True, query_norm="norm_added_q")
    return (Stack("layers", (site,)),)


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Frames from their shapes and from which of them are noisy; all but the text is counted."""
    counts = {
        "image": _clean_tokens(arguments),
        "audio": _tokens(arguments.get("sound_token_shapes")),
        "action": _tokens(arguments.get("action_token_shapes")),
    }
    return counts | {"video": _tokens(arguments["vision_token_shapes"]) - counts["image"]}


def _tokens(shapes: list[tuple[int, int, int]] | None) -> int:
    """In all items of a kind."""
    return sum(math.prod(shape) for shape in shapes or ())


def _clean_tokens(arguments: Arguments) -> int:
    """Tokens before the first noisy frame: control videos come whole, before the one that is made."""
    tokens = 0
    for shape, noisy in zip(arguments["vision_token_shapes"], arguments["vision_noisy_frame_indexes"], strict=True):
        frames = _clean_frames(noisy, shape[0])
        tokens += frames * math.prod(shape[1:])
        if frames < shape[0]:
            break
    return tokens


def _clean_frames(noisy: Tensor, frames: int) -> int:
    """Index of the first noisy frame, from the indices of them all; the same tensor at every step."""
    if len(noisy) in (0, frames):
        return frames - len(noisy)
    return _first_noisy.of(noisy, lambda: int(noisy[0]))


def check(arguments: Arguments, streams: Container[str]) -> None:
    """Refuse a call that makes no video.

    Raises: AttachmentError if every frame is given: the actions between them are predicted ("inverse_dynamics").
    """
    if all(len(noisy) == 0 for noisy in arguments["vision_noisy_frame_indexes"]):
        raise AttachmentError(
            "With all frames given, Cosmos 3 makes no video: it predicts the actions that lead from one frame to the "
            'next. Detach for mode "inverse_dynamics".'
        )


WORDS_REFUSAL = "its transformer reads the prompt's tokens itself, without a text encoder."


FAMILY = Family(
    name="cosmos3",
    transformers=("Cosmos3OmniTransformer",),
    pipelines=("Cosmos3OmniPipeline", "Cosmos3OmniModularPipeline", "Cosmos3DistilledModularPipeline"),
    stacks=stacks,
    reads=Reads(words_refusal=WORDS_REFUSAL, token_counts=token_counts, check=check),
    time=Time(text="input_ids", argument="vision_timesteps"),
)
