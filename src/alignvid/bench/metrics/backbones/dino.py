"""DINO ViT-B/16: transformers' ViT with the positions of the original.

Takes a folder of transformers (`facebook/dino-vitb16`) or the original checkpoint (`dino_vitbase16_pretrain.pth`),
whose names are translated. The original spreads its table of positions over other image sizes with a scale factor that
is 0.1 patches too large, against rounding errors; transformers does not, and its features differ where the picture is
not square. The normalisation constant differs, too: 1e-6, not 1e-12. DINO and its weights: Apache-2.0.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from alignvid.bench.metrics.pixels import Encode, Pixels
from alignvid.bench.metrics.weights import State, fill, pretrained, read_state

_NORM_EPS = 1e-6
_SURPLUS = 0.1  # patches that the original adds to the size of the grid
_HEAD_WIDTH = 64

Positions = Float[Tensor, "1 _ dim"]

_RENAMES = (
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.(\d+)\.norm1\.", r"layers.\1.layernorm_before."),
    (r"^blocks\.(\d+)\.norm2\.", r"layers.\1.layernorm_after."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"layers.\1.attention.o_proj."),
    (r"^blocks\.(\d+)\.mlp\.", r"layers.\1.mlp."),
)
_JOINT = re.compile(r"^blocks\.(\d+)\.attn\.qkv\.(weight|bias)$")


def load_dino(path: Path, device: str) -> Encode:
    """The class token of each picture, of any size, from a folder of transformers or the original's file.

    Raises: InputError if there is no DINO in it.
    """
    from transformers import ViTModel

    if path.is_dir():
        options = {"add_pooling_layer": False, "layer_norm_eps": _NORM_EPS}
        vit = pretrained(ViTModel.from_pretrained, path, **options)
    else:
        vit = _from_original(path)
    vit = vit.float().to(device).eval()
    return lambda pixels: _class_token(vit, pixels)


def original_positions(table: Positions, height: int, width: int, patch: int) -> Positions:
    """The table of positions, spread over a picture of these pixels as DINO's own code spreads it.

    A picture that is not square is spread even where it has as many patches as the table.
    """
    side = math.isqrt(table.shape[1] - 1)
    rows, columns = height // patch, width // patch
    if height == width and rows == side:
        return table
    grid = table[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    scale = ((rows + _SURPLUS) / side, (columns + _SURPLUS) / side)
    spread = F.interpolate(grid, scale_factor=scale, mode="bicubic", align_corners=False)
    return torch.cat([table[:, :1], spread.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def transformers_names(state: State) -> State:
    """The original's checkpoint under the names of transformers; its joint projection is taken apart."""
    renamed: State = {}
    for name, tensor in state.items():
        if joint := _JOINT.match(name):
            for kind, part in zip("qkv", tensor.chunk(3), strict=True):
                renamed[f"layers.{joint[1]}.attention.{kind}_proj.{joint[2]}"] = part
        else:
            renamed[_renamed(name)] = tensor
    return renamed


def _class_token(vit: Any, pixels: Pixels) -> Float[Tensor, "frame dim"]:
    embeddings = vit.embeddings
    patches = embeddings.patch_embeddings(pixels)
    height, width = pixels.shape[-2:]
    positions = original_positions(embeddings.position_embeddings, height, width, vit.config.patch_size)
    hidden = torch.cat([embeddings.cls_token.expand(len(patches), -1, -1), patches], dim=1) + positions
    for layer in vit.layers:
        hidden = layer(hidden, None)
    return vit.layernorm(hidden)[:, 0]


def _from_original(path: Path) -> Any:
    from transformers import ViTConfig, ViTModel

    state = transformers_names(read_state(path))
    vit = ViTModel(ViTConfig(**_sizes(state)), add_pooling_layer=False)
    fill(vit, state, path)
    return vit


def _sizes(state: State) -> dict[str, Any]:
    """The configuration that these tensors were made for; of another network, one that they will not fit."""
    projection = state.get("embeddings.patch_embeddings.projection.weight", torch.empty(_HEAD_WIDTH, 3, 16, 16))
    table = state.get("embeddings.position_embeddings", torch.empty(1, 2, 1))
    first = state.get("layers.0.mlp.fc1.weight", torch.empty(1, 1))
    width, patch = projection.shape[0], projection.shape[-1]
    return {
        "hidden_size": width,
        "num_hidden_layers": len([name for name in state if name.endswith("mlp.fc1.weight")]),
        "num_attention_heads": max(width // _HEAD_WIDTH, 1),
        "intermediate_size": first.shape[0],
        "patch_size": patch,
        "image_size": patch * math.isqrt(table.shape[1] - 1),
        "layer_norm_eps": _NORM_EPS,
    }


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name
