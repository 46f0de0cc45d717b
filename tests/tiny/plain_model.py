"""A video transformer as a research repository has it: plain torch, no base class of a library, no config."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alignvid.models import Family, KeyNorm, Site, Stack, Time

HEADS, SIZE, LAYERS = 2, 8, 3
WIDTH = HEADS * SIZE


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.norm_q, self.norm_k = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        query, key, value = self.norm_q(self.q(x)), self.norm_k(self.k(context)), self.v(context)
        heads = [tokens.unflatten(2, (HEADS, SIZE)).transpose(1, 2) for tokens in (query, key, value)]
        return self.o(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn, self.cross_attn = Attention(), Attention()

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.self_attn(x, x)
        return x + self.cross_attn(x, context)


class PlainVideoModel(nn.Module):
    """Blocks lie one level down, as where a model wraps its trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Module()
        self.trunk.blocks = nn.ModuleList(Block() for _ in range(LAYERS))

    def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        for block in self.trunk.blocks:
            x = block(x + t[:, None, None], context)
        return x


class WanTransformer3DModel(PlainVideoModel):
    """It bears the name of a class of diffusers, and has nothing else of it."""


SELF = Site("self", "self_attn", (KeyNorm("norm_k", ("video",)),))
CROSS = Site("cross", "cross_attn", (KeyNorm("norm_k", ("text",)),))
PLAIN = Family(
    name="plain",
    transformers=(f"{PlainVideoModel.__module__}:PlainVideoModel",),
    stacks=(Stack("trunk.blocks", (SELF, CROSS)),),
    time=Time(argument="t", scale=1.0),
)


def plain_model() -> tuple[PlainVideoModel, dict[str, Tensor]]:
    """A model with random weights, and what its forward takes."""
    torch.manual_seed(0)
    model = PlainVideoModel().eval()
    return model, {"x": torch.randn(1, 6, WIDTH), "t": torch.tensor([1.0]), "context": torch.randn(1, 5, WIDTH)}
