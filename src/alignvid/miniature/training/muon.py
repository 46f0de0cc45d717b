"""Muon in single precision. PyTorch's own orthogonalises in bfloat16, which processors without it only emulate.

On such a processor PyTorch's took 1.94 s of the 2.45 s of a training step, this takes 0.09 s (docs/lab-log.md).
The updates are the same up to rounding: tests/miniature/training/test_muon.py compares them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # the quintic iteration's coefficients, as in torch.optim.Muon
ITERATIONS = 5
SMALLEST_NORM = 1e-7


class Muon(torch.optim.Optimizer):
    """Momentum whose update of each matrix is made orthogonal; with Nesterov, sized like AdamW's updates.

    A convolution is the matrix of its outputs by all the rest.
    """

    def __init__(
        self, matrices: Iterable[nn.Parameter], *, learning_rate: float, momentum: float, weight_decay: float
    ) -> None:
        super().__init__(list(matrices), {"lr": learning_rate, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no loss is given back
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._update(matrix, group["lr"], group["momentum"], group["weight_decay"])

    def _update(self, matrix: nn.Parameter, rate: float, momentum: float, weight_decay: float) -> None:
        state, gradient = self.state[matrix], matrix.grad
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        average = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        step = gradient.lerp(average, momentum).flatten(1)  # type: ignore[union-attr]  # -> (rows, columns)
        size = 0.2 * max(step.shape) ** 0.5  # the root mean square of AdamW's updates
        matrix.mul_(1 - rate * weight_decay)
        matrix.add_(orthogonal(step).view_as(matrix), alpha=-rate * size)


def orthogonal(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """Nearly the nearest matrix whose singular values are 1: five Newton-Schulz iterations leave them in 0.5..1.5."""
    a, b, c = NEWTON_SCHULZ
    is_tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if is_tall else matrix
    wide = wide / wide.norm().clamp(min=SMALLEST_NORM)
    for _ in range(ITERATIONS):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.T if is_tall else wide
