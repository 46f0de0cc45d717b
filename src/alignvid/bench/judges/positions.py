"""Positions of the tokens of a question about one video, as transformers 4.50.1 and vLLM count them for Qwen2.5-VL.

transformers 5 lets the text after a video begin at the video's larger side instead of after its last position, which
changes every answer. The published numbers were made with 4.50.1.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

RULE = "transformers 4.50.1"


def video_positions(
    tokens: Int[Tensor, " token"],
    *,
    video_token: int,
    grid: tuple[int, int, int],
    seconds_per_grid: float,
    merged: int,
    positions_per_second: float,
) -> Int[Tensor, "3 token"]:
    """Temporal, vertical and horizontal position of each token; text has three equal ones.

    Args:
        tokens: Ids of a prompt that holds one video.
        video_token: The id that stands for a piece of the video.
        grid: Patches in time, height and width, before merging.
        seconds_per_grid: Time from one step of the grid to the next.
        merged: Patches along a side that make one token.
        positions_per_second: The model's own unit of time.
    """
    first, last = (tokens == video_token).nonzero().flatten()[[0, -1]].tolist()
    axes = (torch.arange(grid[0]), torch.arange(grid[1] // merged), torch.arange(grid[2] // merged))
    video = torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    video[0] = (video[0] * seconds_per_grid * positions_per_second).long()
    before = torch.arange(first).expand(3, -1)
    video = video + first
    after = torch.arange(len(tokens) - last - 1).expand(3, -1) + int(video.max()) + 1
    return torch.cat((before, video, after), dim=1)
