"""Norms of other code: they work in place, or are fused into a kernel that reads their weight and never calls them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import alignvid
from alignvid.errors import ContractError, ContractWarning
from alignvid.models import registry as families
from plain_model import PLAIN, WIDTH, Attention, PlainVideoModel, plain_model

GAMMA = 1.5


class InPlaceNorm(nn.RMSNorm):
    """As Wan2GP's: what it is given is what it changes."""

    def forward(self, x: Tensor) -> Tensor:
        return x.copy_(super().forward(x))


class SilentNorm(nn.RMSNorm):
    def forward(self, x: Tensor) -> None:  # type: ignore[override]  # as some code has it
        x.copy_(super().forward(x))


class Ignoring(Attention):
    """Its caller looks at the keys alone, not at what the norm returns."""

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        key = self.k(context)
        self.norm_k(key)
        query, value = self.norm_q(self.q(x)), self.v(context)
        heads = [t.unflatten(2, (2, -1)).transpose(1, 2) for t in (query, key, value)]
        return self.o(nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


class Fused(Attention):
    """One kernel for norm and rotation, which reads the norm's weight."""

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        query = self.norm_q(self.q(x))
        key = nn.functional.rms_norm(self.k(context), (WIDTH,), self.norm_k.weight)
        heads = [t.unflatten(2, (2, -1)).transpose(1, 2) for t in (query, key, self.v(context))]
        return self.o(nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> PlainVideoModel:
    monkeypatch.setattr(families, "_registered", {"plain": PLAIN})
    return plain_model()[0]


@torch.no_grad()
def run(model: PlainVideoModel) -> Tensor:
    return model(**plain_model()[1])


def other_norms(model: PlainVideoModel, norm: Callable[[int], nn.Module]) -> None:
    for block in model.trunk.blocks:
        block.cross_attn.__class__ = Ignoring
        block.cross_attn.norm_k = norm(WIDTH)


@pytest.mark.parametrize("norm", [InPlaceNorm, SilentNorm])
@pytest.mark.parametrize("is_wrapped", [False, True], ids=["class", "forward on the instance"])
def test_a_norm_that_works_in_place_is_as_exact_as_keys_scaled_by_hand(
    model: PlainVideoModel, norm: type[nn.Module], is_wrapped: bool
) -> None:
    hooks = [
        block.cross_attn.norm_k.register_forward_hook(lambda _, __, key: key * GAMMA) for block in model.trunk.blocks
    ]
    expected = run(model)
    for hook in hooks:
        hook.remove()
    other_norms(model, norm)
    if is_wrapped:
        for block in model.trunk.blocks:
            inner = block.cross_attn.norm_k.forward
            block.cross_attn.norm_k.forward = lambda x, inner=inner: inner(x)
    plain = run(model)
    with alignvid.attach(model, "generic", gamma=GAMMA, streams=["cross.text"], blocks="all", steps="all"):
        found = run(model)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    assert not torch.equal(found, plain) and torch.equal(run(model), plain)


def test_attentions_whose_kernel_reads_the_weight_of_the_norm_are_named(model: PlainVideoModel) -> None:
    model.trunk.blocks[0].cross_attn.__class__ = model.trunk.blocks[2].cross_attn.__class__ = Fused
    said = r"2 of the 3 attentions .*: trunk\.blocks\.0\.cross, trunk\.blocks\.2\.cross\. A kernel reads"
    recipe = {"gamma": GAMMA, "streams": ["cross.text"], "blocks": "all", "steps": "all"}
    with alignvid.attach(model, "generic", **recipe), pytest.warns(ContractWarning, match=said):
        run(model)
    with alignvid.attach(model, "generic", strict=True, **recipe), pytest.raises(ContractError, match=said):
        run(model)
