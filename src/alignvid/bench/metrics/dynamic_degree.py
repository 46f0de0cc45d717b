"""Whether a video moves: VBench's dynamic_degree, on RAFT's optical flow (vbench/dynamic_degree.py).

The flow is computed on frames that are padded to multiples of 8; VBench scores the padded field, natively the padding
is cut off.
"""

from __future__ import annotations

from itertools import pairwise

from alignvid.bench.metrics.backbones.raft import Flow, Image, check_size, load_raft, padding
from alignvid.bench.metrics.metric import Footage, Measure, Measurement, Metric, Setup, Weights
from alignvid.bench.metrics.movement import MovementRule, compared_frames, dynamic_degree, pair_score

_RAFT = Weights(
    name="raft",
    what="RAFT's raft-things.pth, or torchvision's raft_large_C_T_V1-22a6c225.pth",
    default="https://download.pytorch.org/models/raft_large_C_T_V1-22a6c225.pth",
)


def _prepare(setup: Setup) -> Measure:
    flow_between = load_raft(setup.weights["raft"], setup.device)

    def measure(footage: Footage) -> Measurement:
        frames = compared_frames(footage.frames, footage.fps)
        check_size(frames[0])
        flows = (flow_between(first, second) for first, second in pairwise(frames))
        if setup.protocol == "native":
            flows = (without_padding(flow, frames[0]) for flow in flows)
        rule = MovementRule.of(len(frames), frames.shape[1], frames.shape[2], setup.protocol)
        return dynamic_degree([pair_score(flow) for flow in flows], len(frames), rule, setup.protocol)

    return measure


def without_padding(flow: Flow, image: Image) -> Flow:
    """The part of the field that lies on the image."""
    height, width = image.shape[:2]
    left, _, top, _ = padding(height, width)
    return flow[top : top + height, left : left + width]


METRIC = Metric(
    name="dynamic_degree",
    what="1 if at least a quarter of the compared pairs of frames move (RAFT), else 0",
    weights=(_RAFT,),
    libraries=("torch", "torchvision", "numpy"),
    prepare=_prepare,
)
