"""Muon in single precision does what PyTorch's own does in bfloat16."""

import pytest
import torch
from torch import nn

from alignvid.miniature.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(6, 6), (4, 12), (12, 4)], ids=["square", "wide", "tall"])
def test_updates_are_those_of_torch_up_to_the_rounding_of_bfloat16(shape):
    torch.manual_seed(0)
    start = torch.randn(shape)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    settings = {"momentum": 0.95, "weight_decay": 0.01}
    mine = Muon([ours], learning_rate=0.1, **settings)
    torch_own = torch.optim.Muon([theirs], lr=0.1, adjust_lr_fn="match_rms_adamw", **settings)

    for _ in range(3):
        ours.grad = theirs.grad = torch.randn(shape)
        mine.step()
        torch_own.step()

    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.02 * moved  # bfloat16 has 8 bits, and the iteration runs five times on them
    assert moved > 0.1


def test_singular_values_come_near_one():
    torch.manual_seed(0)

    values = torch.linalg.svdvals(orthogonal(torch.randn(16, 40)))

    assert 0.5 < values.min() and values.max() < 1.5
