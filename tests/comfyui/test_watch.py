"""What the pack's watch overhears, on a small model that asks for its attention as ComfyUI's do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from alignvid.errors import AttachmentError
from alignvid.models import Family, KeyNorm, Reads, Site, Stack
from alignvid.models import registry as families
from comfyui_interfaces import CONST, Patcher, wrapped
from comfyui_pack import pack

watch, plot = pack("watch"), pack("plot")
HEADS, SIZE, VIDEO, TEXT, WORDS = 2, 4, 6, 5, 3
STEPS = torch.tensor([1.0, 0.6, 0.0])


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, **_: Any) -> Tensor:
    q, k, v = (t.unflatten(2, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.k_norm = nn.RMSNorm(HEADS * SIZE)

    def forward(self, x: Tensor, context: Tensor, transformer_options: Any) -> Tensor:
        key = self.k_norm(context)
        override = transformer_options.get("optimized_attention_override")
        if override is None:
            return attention(x, key, context, HEADS)
        return override(attention, x, key, context, HEADS)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.joint, self.cross = Attention(), Attention()

    def forward(self, x: Tensor, context: Tensor, options: Any) -> Tensor:
        both = torch.cat([context, x], dim=1)
        x = x + self.joint(both, both, options)[:, TEXT:]
        return x + self.cross(x, context, options)


class WatchedModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(2))

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor, transformer_options: Any) -> Tensor:
        for block in self.blocks:
            x = block(x * timestep[:, None, None], context, transformer_options)
        return x


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.diffusion_model, self.model_sampling = WatchedModel(), CONST()


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Base]:
    sites = (
        Site("joint", "joint", (KeyNorm("k_norm", ("text", "video")),)),
        Site("cross", "cross", (KeyNorm("k_norm", ("text",)),)),
    )
    reads = Reads(token_counts=lambda _, arguments: {"text": arguments["context"].shape[1]})
    kind = f"{WatchedModel.__module__}:WatchedModel"
    family = Family("comfyui_watched", (kind,), (Stack("blocks", sites),), reads=reads, time=pack("families")._TIME)
    monkeypatch.setattr(families, "_registered", {"comfyui_watched": family})
    torch.manual_seed(0)
    yield Base()


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    context = torch.randn(2, TEXT, HEADS * SIZE, generator=generator)
    context[:, WORDS:] = 0.0  # padding
    return torch.randn(2, VIDEO, HEADS * SIZE, generator=generator), context


@torch.no_grad()
def run(patcher: Any) -> Tensor:
    """Two steps, the negative prompt first in one batch."""
    model, (x, context) = patcher.model, inputs()

    def forward(x: Any, t: Any, c_concat: Any, context: Any, control: Any, options: Any, **_: Any) -> Tensor:
        return model.diffusion_model(x, t, context, options)

    def sample() -> list[Tensor]:
        apply, given = wrapped(patcher, "apply_model", model, forward), {"sample_sigmas": STEPS}
        options = {**given, "cond_or_uncond": [1, 0]}
        return [apply(x, sigma.expand(2), None, context, None, dict(options)) for sigma in STEPS[:-1]]

    return torch.stack(wrapped(patcher, "outer_sample", None, sample)())


def by_hand(query: Tensor, key: Tensor, words: slice) -> tuple[float, float]:
    q, k = (t.unflatten(1, (HEADS, SIZE)).transpose(0, 1) for t in (query, key))
    weights = (q @ k.mT / SIZE**0.5).softmax(-1)
    entropy = -(weights * weights.log()).sum(-1) / torch.tensor(float(len(key))).log()
    return float(entropy.mean()), float(weights[..., words].sum(-1).mean())


def test_entropy_and_share_of_the_words_are_those_of_the_softmax(base: Base) -> None:
    plain = run(Patcher(base))
    clone = watch.watched(Patcher(base))
    assert torch.equal(run(clone), plain)
    heard = watch.heard_by(watch.watch_of(clone))
    assert [(item.step, item.block, item.site) for item in heard] == [
        (step, block, site) for step in (0, 1) for block in (0, 1) for site in ("joint", "cross")
    ]
    x, context = inputs()
    block, both = base.diffusion_model.blocks[0], torch.cat([context[1], x[1]])
    with torch.no_grad():
        joint = by_hand(x[1], block.joint.k_norm(both), slice(0, WORDS))
        after = x[1] + attention(both[None], block.joint.k_norm(both)[None], both[None], HEADS)[0, TEXT:]
        cross = by_hand(after, block.cross.k_norm(context[1]), slice(0, WORDS))
    for item, expected in zip(heard, (joint, cross), strict=False):
        assert (item.entropy, item.words) == pytest.approx(expected, abs=1e-6)


def test_the_picture_is_an_image_of_blocks_and_steps(base: Base) -> None:
    clone = watch.watched(Patcher(base))
    run(clone)
    heard = watch.heard_by(watch.watch_of(clone))
    assert plot.averages(heard, "entropy")["blocks, joint"].shape == (2, 2)
    image = plot.picture(heard)
    assert image.ndim == 4 and image.shape[0] == 1 and image.shape[-1] == 3
    assert image.dtype is torch.float32 and 0.0 <= float(image.min()) < 0.5 < float(image.max()) <= 1.0


def test_what_was_not_overheard_is_refused_with_the_reason(base: Base) -> None:
    with pytest.raises(AttachmentError, match="no AlignVid Observe node"):
        watch.heard_by(watch.watch_of(Patcher(base)))
    clone = watch.watched(Patcher(base))
    with pytest.raises(AttachmentError, match="connect `after`"):
        watch.heard_by(watch.watch_of(clone))
    with pytest.raises(AttachmentError, match="one is enough"):
        watch.watched(clone)
