"""Rivals beside a gain, as one recipe: the run of the rival alone on a model whose text keys are scaled by hand."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor

import alignvid
from alignvid import BlockSet, Recipe, Scalar, StepWindow
from alignvid.modulation import Alg, Dcag, DownUp, DyMoS, Grag, Painter, RefKV
from pipelines import generate, hunyuan_i2v_token_replace, wan_i2v

GAMMA = 1.5
WAN, HUNYUAN = (wan_i2v, "cross.text", "attn2.norm_k"), (hunyuan_i2v_token_replace, "double.text", "attn.norm_added_k")
KINDS: list[tuple[Any, Any]] = [
    (WAN, Painter(1.5)),
    (WAN, DownUp(0.5)),
    (WAN, Alg(0.5)),
    (WAN, DyMoS()),
    (HUNYUAN, Grag(0.7)),
    (HUNYUAN, Dcag(0.7, 0.8)),
    (HUNYUAN, RefKV(1.3)),
    (HUNYUAN, DyMoS()),
]


def by_hand(pipe: Any, call: dict[str, Any], end: str) -> Tensor:
    """The run with what leaves the norms of the text's keys multiplied by hooks."""
    with ExitStack() as stack:
        for path, norm in pipe.transformer.named_modules():
            if path.endswith(end) and "refiner" not in path:
                stack.callback(norm.register_forward_hook(lambda _, __, keys: keys * GAMMA).remove)
        return generate(pipe, call)


@pytest.mark.parametrize(("model", "kind"), KINDS, ids=[f"{kind.kind} {model[1]}" for model, kind in KINDS])
@pytest.mark.parametrize(
    "is_first", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["gain first", "gain last"]
)
def test_a_gain_beside_it_is_that_of_keys_scaled_by_hand(model, kind, is_first):
    builder, target, end = model
    pipe, call = builder()
    plain, where = generate(pipe, call), (BlockSet.of("all"), StepWindow.all())
    with alignvid.attach(pipe, Recipe(kind, *where)):
        alone, expected = generate(pipe, call), by_hand(pipe, call, end)
    parts = [Recipe(Scalar(GAMMA, {target: 1.0}), *where), Recipe(kind, *where)]
    first, last = parts if is_first else reversed(parts)
    with alignvid.attach(pipe, Recipe(first.modulation, *where, then=(last,))):
        both = generate(pipe, call)
    assert not torch.equal(alone, plain) and not torch.allclose(expected, alone, atol=1e-3)
    torch.testing.assert_close(both, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(generate(pipe, call), plain)
