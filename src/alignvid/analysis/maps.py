"""Attention maps: how much each video token attends to chosen words or reference regions, per latent frame.

One row block at a time (tiles.py), averaged over heads: the full matrix never exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from alignvid.analysis.tiles import exactly, tiles
from alignvid.errors import ObservationError
from alignvid.host.transformers import Host
from alignvid.models.family import Arguments
from alignvid.models.reading.words import occurrences, prompt_runs


class ChosenKeys(NamedTuple):
    """Keys to which a map shows the attention."""

    stream: str
    positions: Sequence[int]
    """Within the stream, from 0."""


@exactly
def attention_to_keys(
    query: Float[Tensor, "batch head query size"],
    key: Float[Tensor, "batch key_head key size"],
    *,
    chosen: Sequence[int],
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Float[Tensor, "batch query"]:
    """Share of each query's attention that goes to the chosen keys together, as a mean over heads."""
    batch, heads, queries, _ = query.shape
    shares = query.new_empty((batch * heads, queries), dtype=torch.float32)
    columns = torch.tensor(list(chosen), device=query.device)
    for tile in tiles(query, key, mask, scale):
        logits = tile.energy if tile.bias is None else tile.energy + tile.bias
        shares[tile.place] = torch.softmax(logits, -1, out=tile.spare).index_select(-1, columns).sum(-1)
    return shares.unflatten(0, (batch, heads)).mean(1)


def frame_grid(host: Host, arguments: Arguments) -> tuple[int, int]:
    """Height and width of a latent frame in tokens, as the family reads them from what the transformer is given; else
    from its configuration and the latents.

    Raises: ObservationError if neither says, as with Cosmos 3, which is given no latents as such.
    """
    read = next((grid for target, grid in host.family.grids.items() if target.endswith(".video")), None)
    if read is not None:
        grid = read(host.transformer, arguments)
        return grid.height, grid.width
    hidden_states, config = arguments.get("hidden_states"), getattr(host.transformer, "config", None)
    patch: Any = getattr(config, "patch_size", None)
    if hidden_states is None or patch is None:
        raise ObservationError(
            f"{type(host.transformer).__name__} does not say how its tokens lie in frames, so that no maps of them can "
            "be made; observe it without maps, or give its family Reads.grids."
        )
    _, patch_height, patch_width = patch if isinstance(patch, Sequence) else (None, patch, patch)
    height, width = hidden_states.shape[-2:]
    return height // patch_height, width // patch_width


def as_frames(weights: Float[Tensor, " token"], grid: tuple[int, int]) -> Float32[np.ndarray, "frame height width"]:
    """Values of video tokens as pictures. Raises: ObservationError if they do not fill whole frames."""
    height, width = grid
    if len(weights) % (height * width):
        raise ObservationError(
            f"{len(weights)} video tokens do not fill frames of {height} x {width}; this model's maps are not known."
        )
    return weights.float().cpu().numpy().reshape(-1, height, width)


def word_positions(tokenizer: Any, prompt: str, word: str) -> list[int]:
    """Positions of a word, or of several in a row, among the tokens of a prompt: the last place where it stands.

    The prompt must be the one that the pipeline sees. HunyuanVideo puts a template around it, whose tokens it drops.
    Raises: ObservationError if the prompt does not contain the word.
    """
    ids = list(tokenizer(prompt).input_ids)
    found = occurrences(prompt_runs(tokenizer, ids, [False] * len(ids)), word)
    if not found:
        raise ObservationError(f"The word {word!r} is not in the prompt {prompt!r}; choose one that is.")
    return found[-1]


def region_positions(region: Bool[np.ndarray, "height width"], *, first: int) -> list[int]:
    """Positions of the reference patches inside a region, row by row.

    Args:
        region: True inside; as many rows and columns as the image encoder has patches.
        first: position of the first patch: 1 where a class token goes before it, as in CLIP, else 0.
    Raises: ObservationError if the region is empty.
    """
    if not region.any():
        raise ObservationError("The region of the reference image is empty; mark at least one patch.")
    return [first + int(place) for place in np.flatnonzero(region)]
