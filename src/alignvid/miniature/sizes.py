"""What size of clip the miniature can make, and the sentence for any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from alignvid.errors import InputError
from alignvid.miniature.drawing import FRAMES, HEIGHT, WIDTH

SPATIAL_FACTOR = 8  # 80 pixels -> 10 latents
TEMPORAL_FACTOR = 4  # 9 frames -> 3 latents


def check_size(config: Mapping[str, Any], width: int, height: int, frames: int) -> None:
    """Refuse a clip for which the miniature's transformer, whose config this is, has no positions.

    Raises: InputError, as for the size of a real Wan.
    """
    places = config["rope_max_seq_len"]
    side, length = places * config["patch_size"][-1] * SPATIAL_FACTOR, (places - 1) * TEMPORAL_FACTOR + 1
    if max(width, height) > side or frames > length:
        raise InputError(
            f"The miniature makes clips of {WIDTH}×{HEIGHT} pixels and {FRAMES} frames, and none beyond {side} pixels "
            f"and {length} frames; {width}×{height} and {frames} frames were asked for, or are the class's "
            f"own where none are given. Give height={HEIGHT}, width={WIDTH}, num_frames={FRAMES}; on "
            "the command line leave size and frames out."
        )


def sized(make: Callable[..., Any], config: Mapping[str, Any], *given: Any, **named: Any) -> Any:
    """A pipeline's own `prepare_latents`, for a size that the transformer can do."""
    size = signature(make).bind(*given, **named).arguments
    check_size(config, size["width"], size["height"], size["num_frames"])
    return make(*given, **named)
