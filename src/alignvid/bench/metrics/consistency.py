"""How alike the frames of a video are: the recursion that VBench uses for subject and background.

vbench/subject_consistency.py:43-60, vbench/background_consistency.py:36-56.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from alignvid.bench.metrics.metric import Footage, Measure, Measurement
from alignvid.bench.metrics.pixels import Encode, ToPixels, features
from alignvid.errors import InputError


def consistency_by(encode: Encode, to_pixels: ToPixels, device: str) -> Measure:
    """The consistency of what a network says of a video's frames."""

    def measure(footage: Footage) -> Measurement:
        check_length(len(footage.frames), "consistency")
        return consistency(features(footage.frames, to_pixels, encode, device))

    return measure


def consistency(frame_features: Float[Tensor, "frame dim"]) -> Measurement:
    """The mean over frames from the second on of how alike a frame is to the one before and to the first.

    Raises: InputError for one frame, where VBench divides by zero.
    """
    check_length(len(frame_features), "consistency")
    former = non_negative_cosine(frame_features[:-1], frame_features[1:])
    first = non_negative_cosine(frame_features[:1], frame_features[1:])
    per_frame = ((former + first) / 2).tolist()
    return Measurement(sum(per_frame) / len(per_frame), {"pairs": per_frame})


def non_negative_cosine(left: Float[Tensor, "#pair dim"], right: Float[Tensor, "#pair dim"]) -> Float[Tensor, " pair"]:
    """Cosine of each pair, nothing below 0; in double precision from the float32 cosine on, as VBench's sums are."""
    return F.cosine_similarity(F.normalize(left, dim=-1), F.normalize(right, dim=-1), dim=-1).double().clamp(min=0)


def check_length(frame_count: int, what: str) -> None:
    """Raises: InputError below two frames."""
    if frame_count < 2:
        raise InputError(f"A video of {frame_count} frame has no {what}; two frames are needed.")
