"""The attention call through an override: every layout that ComfyUI's attentions use, with a kernel of torch's own."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from alignvid.models.attention_call import AttentionCall, Kernel
from comfyui_pack import pack

calls = pack("calls")
HEADS, SIZE, QUERIES, KEYS = 2, 3, 4, 5


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Any = None, *_: Any, **given: Any) -> Tensor:
    """A kernel with the arguments of ComfyUI's."""
    if not given.get("skip_reshape"):
        q, k, v = (part.unflatten(2, (-1, SIZE)).transpose(1, 2) for part in (q, k, v))
    if mask is not None and mask.ndim == 3:
        mask = mask[:, None]
    k, v = (part.repeat_interleave(heads // part.shape[1], 1) for part in (k, v))
    output = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=given.get("scale"))
    return output if given.get("skip_output_reshape") else output.transpose(1, 2).flatten(2)


def asked_of(attend: Any, options: dict[str, Any], *args: Any, **given: Any) -> Tensor:
    """What an attention gets that was given these transformer options."""
    _, kwargs = calls.at_call((), {"transformer_options": options}, attend)
    return kwargs["transformer_options"][calls.OVERRIDE](attention, *args, **given)


def tokens(count: int, are_apart: bool, heads: int, seed: int) -> Tensor:
    flat = torch.randn(2, count, heads * SIZE, generator=torch.Generator().manual_seed(seed))
    return flat.unflatten(2, (heads, SIZE)).transpose(1, 2) if are_apart else flat


@pytest.mark.parametrize("key_heads", [1, HEADS])
@pytest.mark.parametrize("by_place", [False, True])
@pytest.mark.parametrize("axes", [0, 2, 3, 4])
@pytest.mark.parametrize("layout", [(), ("skip_reshape",), ("skip_reshape", "skip_output_reshape")], ids=str)
def test_every_layout_comes_in_one_and_goes_back_as_it_came(
    layout: tuple[str, ...], axes: int, by_place: bool, key_heads: int
) -> None:
    given, seen = dict.fromkeys(layout, True), []
    parts = [tokens(*size, heads, seed) for seed, (size, heads) in enumerate(_sizes(bool(layout), key_heads))]
    mask = None if axes == 0 else torch.zeros(QUERIES, KEYS).masked_fill(torch.eye(QUERIES, KEYS) > 0, -2.0)
    mask = mask if mask is None else mask[(None,) * (axes - 2)]
    rest = (HEADS, mask) if by_place else ()
    given |= {} if by_place else {"heads": HEADS, "mask": mask}

    def untouched(asked: AttentionCall, kernel: Kernel) -> Tensor:
        seen.append(asked)
        return kernel(asked)

    def biased(asked: AttentionCall, kernel: Kernel) -> Tensor:
        bias = torch.zeros(1, 1, 1, KEYS)
        bias[..., 0] = math.log(3.0)
        return kernel(asked._replace(mask=bias if asked.mask is None else asked.mask + bias))

    plain = attention(*parts, *rest, **given)
    assert torch.equal(asked_of(untouched, {}, *parts, *rest, **given), plain)
    [asked] = seen
    assert (asked.query.shape, asked.key.shape) == ((2, QUERIES, HEADS, SIZE), (2, KEYS, key_heads, SIZE))
    assert asked.scale == pytest.approx(SIZE**-0.5)
    assert (asked.mask is None) if axes == 0 else asked.mask is not None and asked.mask.ndim == 4
    k, v = (part.repeat_interleave(HEADS // key_heads, 2) for part in asked[1:3])
    logits = torch.einsum("bqhd,bkhd->bhqk", asked.query, k) * asked.scale
    logits = logits if asked.mask is None else logits + asked.mask
    logits[..., 0] += math.log(3.0)
    expected = torch.einsum("bhqk,bkhd->bhqd", logits.softmax(-1), v)
    expected = expected if "skip_output_reshape" in layout else expected.transpose(1, 2).flatten(2)
    torch.testing.assert_close(asked_of(biased, {}, *parts, *rest, **given), expected)


def _sizes(are_apart: bool, key_heads: int) -> list[tuple[tuple[int, bool], int]]:
    return [((QUERIES, are_apart), HEADS), ((KEYS, are_apart), key_heads), ((KEYS, are_apart), key_heads)]


def test_ours_act_in_their_order_and_then_the_override_that_was_there() -> None:
    order: list[str] = []

    def noting(name: str) -> Any:
        def attend(asked: AttentionCall, kernel: Kernel) -> Tensor:
            order.append(name)
            return kernel(asked)

        return attend

    def theirs(kernel: Any, *args: Any, **given: Any) -> Tensor:
        order.append("theirs")
        return kernel(*args, **given)

    options = {calls.OVERRIDE: theirs, "patches": {}}
    kwargs = {"transformer_options": options}
    for name in ("first", "second"):
        _, kwargs = calls.at_call((), kwargs, noting(name))
    parts = [tokens(count, False, HEADS, seed) for seed, count in enumerate((QUERIES, KEYS, KEYS))]
    found = kwargs["transformer_options"][calls.OVERRIDE](attention, *parts, HEADS)
    assert order == ["first", "second", "theirs"] and torch.equal(found, attention(*parts, HEADS))
    assert options == {calls.OVERRIDE: theirs, "patches": {}}  # those of the graph stay as they are
