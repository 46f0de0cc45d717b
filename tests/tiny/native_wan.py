"""Wan's own repository in small: lists of videos, other names than diffusers', a loop whose scheduler is its own."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, HEADS, LAYERS, TEXT, CLIP = 48, 2, 4, 512, 257
STEPS, SHIFT = 6, 5.0


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.norm_q, self.norm_k = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)

    def attend(self, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
        heads = [t.unflatten(2, (HEADS, -1)).transpose(1, 2) for t in (self.norm_q(self.q(x)), key, value)]
        return F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.o(self.attend(x, self.norm_k(self.k(x)), self.v(x)))


class CrossAttention(SelfAttention):
    def __init__(self) -> None:
        super().__init__()
        self.k_img, self.v_img, self.norm_k_img = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.RMSNorm(WIDTH)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        assert context is not None
        image, text = context[:, :-TEXT], context[:, -TEXT:]
        seen = self.attend(x, self.norm_k_img(self.k_img(image)), self.v_img(image))
        return self.o(self.attend(x, self.norm_k(self.k(text)), self.v(text)) + seen)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn, self.cross_attn = SelfAttention(), CrossAttention()

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.self_attn(x)
        return x + self.cross_attn(x, context)


class WanModel(nn.Module):
    """Named as the real one, for which its family takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.model_type, self.patch_size, self.num_heads, self.dim = "i2v", (1, 2, 2), HEADS, WIDTH
        self.patch_embedding, self.img_emb = nn.Linear(36 * 4, WIDTH), nn.Linear(1280, WIDTH)
        self.text_embedding, self.head = nn.Linear(32, WIDTH), nn.Linear(WIDTH, 16 * 4)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))

    def forward(self, x: Any, t: Tensor, context: Any, seq_len: int, clip_fea: Any = None, y: Any = None) -> Any:
        video = torch.cat([x[0], y[0]], dim=0)
        channels, frames, height, width = video.shape
        patches = video.reshape(channels, frames, height // 2, 2, width // 2, 2).permute(1, 2, 4, 0, 3, 5)
        tokens = self.patch_embedding(patches.reshape(1, -1, channels * 4)) + t[:, None, None] / 1000.0
        text = F.pad(context[0], (0, 0, 0, TEXT - len(context[0])))
        context = torch.cat([self.img_emb(clip_fea), self.text_embedding(text)[None]], dim=1)
        for block in self.blocks:
            tokens = block(tokens, context)
        patches = self.head(tokens)[0].reshape(frames, height // 2, width // 2, 16, 2, 2)
        return [patches.permute(3, 0, 1, 4, 2, 5).reshape(16, frames, height, width)]


WanModel.__module__ = "wan.modules.model"


class WanI2V:
    """The loop of image-to-video: both passes in each step, and a scheduler that nobody else sees."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = WanModel().eval()
        self.prompt, self.negative = torch.randn(7, 32), torch.randn(5, 32)

    @torch.no_grad()
    def generate(self, sampling_steps: int = STEPS, shift: float = SHIFT, guide_scale: float = 5.0) -> Tensor:
        noise = torch.Generator().manual_seed(1)
        latents, y = torch.randn(16, 2, 4, 4, generator=noise), torch.randn(20, 2, 4, 4, generator=noise)
        fixed = {"seq_len": 8, "clip_fea": torch.randn(1, CLIP, 1280, generator=noise), "y": [y]}
        even = torch.linspace(1.0, 0.0, sampling_steps + 1)[:-1]
        for level in shift * even / (1 + (shift - 1) * even):
            t = torch.stack([(level * 1000.0).long()])
            cond, uncond = (
                self.model([latents], t=t, context=[text], **fixed)[0] for text in (self.prompt, self.negative)
            )
            latents = latents - (uncond + guide_scale * (cond - uncond)) / sampling_steps
        return latents


WanI2V.__module__ = "wan.image2video"
