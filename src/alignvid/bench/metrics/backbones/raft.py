"""RAFT (large), the optical flow of VBench's dynamic degree: torchvision's, which equals the original bit for bit.

Takes torchvision's own checkpoint (`C_T_V1`, ported from raft-things) or the original `raft-things.pth`, whose names
are translated. torchvision: BSD-3; RAFT and its weights: BSD-3.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from alignvid.bench.metrics.weights import State, fill, read_state
from alignvid.errors import InputError, MissingExtra

ITERATIONS = 20
MIN_SIDE = 128
"""Pixels; below it the coarsest level of RAFT's correlation pyramid is a single point."""

Image = UInt8[np.ndarray, "height width 3"]
Flow = Float[np.ndarray, "_ _ 2"]

# The original's names (github.com/princeton-vl/RAFT, core/) and torchvision's (models/optical_flow/raft.py), in order.
_RENAMES = (
    (r"^(fnet|cnet)\.conv1\.", r"\1.convnormrelu.0."),
    (r"^(fnet|cnet)\.norm1\.", r"\1.convnormrelu.1."),
    (r"^(fnet|cnet)\.conv2\.", r"\1.conv."),
    (r"^(.*layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0."),
    (r"^(.*layer\d\.\d)\.norm([12])\.", r"\1.convnormrelu\2.1."),
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"^update_block\.encoder\.conv([cf])(\d)\.", lambda match: _motion_name(match[1], match[2])),
    (r"^update_block\.encoder\.conv\.", "update_block.motion_encoder.conv.0."),
    (r"^update_block\.gru\.conv([zrq])(\d)\.", r"update_block.recurrent_block.convgru\2.conv\1."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
)
_REPEATED = re.compile(r"layer\d\.\d\.norm3\.")  # the original holds the norm of a shortcut twice


def load_raft(path: Path, device: str) -> Callable[[Image, Image], Flow]:
    """Optical flow from the first image to the second, over the field that is padded to multiples of 8.

    Raises: MissingExtra without torchvision; InputError if the file does not hold RAFT (large).
    """
    try:
        from torchvision.models.optical_flow import raft_large
    except ImportError as error:
        raise MissingExtra('RAFT needs torchvision; install it: pip install "alignvid[metrics]"') from error
    model = raft_large(weights=None)
    fill(model, torchvision_names(read_state(path)), path)
    model = model.to(device).eval()

    def flow(first: Image, second: Image) -> Flow:
        check_size(first)
        with torch.inference_mode():
            fields = model(_pixels(first, device), _pixels(second, device), num_flow_updates=ITERATIONS)
        return fields[-1][0].permute(1, 2, 0).cpu().numpy()

    return flow


def torchvision_names(state: State) -> State:
    """A checkpoint under torchvision's names, from the original's or from its own."""
    if not any(name.startswith(("fnet.", "cnet.")) for name in state):
        return state
    return {_renamed(name): tensor for name, tensor in state.items() if not _REPEATED.search(name)}


def check_size(image: Image) -> None:
    """Raises: InputError below `MIN_SIDE`, where RAFT has no flow."""
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise InputError(
            f"A video of {width}x{height} is too small for RAFT; {MIN_SIDE} pixels a side are needed, "
            "use dynamic_degree_dis."
        )


def padding(height: int, width: int) -> tuple[int, int, int, int]:
    """Left, right, top, bottom: up to the next multiple of 8, the odd pixel right and below."""
    extra_height, extra_width = -height % 8, -width % 8
    left, top = extra_width // 2, extra_height // 2
    return left, extra_width - left, top, extra_height - top


def _pixels(image: Image, device: str) -> Float[Tensor, "1 3 padded_height padded_width"]:
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float().to(device)
    return 2 * (F.pad(pixels, padding(*image.shape[:2]), mode="replicate") / 255.0) - 1.0


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _motion_name(kind: str, index: str) -> str:
    return f"update_block.motion_encoder.conv{'corr' if kind == 'c' else 'flow'}{index}.0."
