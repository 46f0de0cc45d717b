"""Rows of the attention matrix: exact for few keys, near enough when projected, on every family."""

import math

import pytest
import torch

from alignvid.analysis import token_rows
from alignvid.analysis.token_rows import attention_rows, observe_token_rows
from alignvid.errors import ObservationError
from alignvid.schedule import StepWindow
from observed import hooks_on
from pipelines import generate

TOLERANCE = 1e-6  # of float32 weights that add up to 1


@pytest.mark.parametrize("mask", [None, torch.arange(9)[None] < 7, torch.randn(6, 9)], ids=["none", "keys", "bias"])
@pytest.mark.parametrize("key_heads", [4, 2], ids=["one key head each", "grouped"])
def test_rows_of_few_keys_are_those_of_the_dense_matrix(mask, key_heads):
    query, key = torch.randn(2, 4, 6, 8), torch.randn(2, key_heads, 9, 8)
    logits = query @ key.repeat_interleave(4 // key_heads, 1).transpose(-1, -2) / math.sqrt(8)
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask
    expected = logits.softmax(-1).mean(1)
    torch.testing.assert_close(attention_rows(query, key, mask=mask), expected, atol=TOLERANCE, rtol=0)


def test_projected_rows_keep_their_distances():
    torch.manual_seed(0)
    query, key = torch.randn(1, 2, 60, 16), torch.randn(1, 2, 3000, 16)
    dense = (query @ key.transpose(-1, -2) / 4).softmax(-1).mean(1)[0]
    projected = attention_rows(query, key)[0]
    assert projected.shape == (60, token_rows._COLUMNS)
    ratios = torch.pdist(projected) / torch.pdist(dense)
    assert ratios.mean() == pytest.approx(1.0, abs=0.03)
    assert 0.03 < ratios.std() < 0.10  # half of √(2/128), as these are not squared


# video tokens, with 9 frames of 16x32 pixels: latent frames x height x width
FAMILIES = {
    "wan_t2v": ({"blocks": 3}, (3, 1, 2)),
    "wan_i2v": ({"blocks": 3}, (3, 1, 2)),
    "wan22_ti2v_5b": ({"blocks": 3}, (2, 1, 2)),
    "wan_vace": ({"blocks": 4}, (3, 1, 2)),
    "hunyuan_t2v": ({"transformer_blocks": 3, "single_transformer_blocks": 3}, (3, 2, 4)),
    "hunyuan_i2v_token_replace": ({"transformer_blocks": 3, "single_transformer_blocks": 3}, (2, 2, 4)),
    "framepack_v1_three_sections": ({"transformer_blocks": 3, "single_transformer_blocks": 3}, (4, 2, 3)),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_main_block_of_a_family_is_seen_at_the_steps_of_the_window(built, name):
    pipe, call = built(name)
    stacks, (frames, height, width) = FAMILIES[name]
    with observe_token_rows(pipe, steps=StepWindow.fraction(0.0, 0.6)) as rows:
        generate(pipe, call)
    expected = [("transformer", stack, block) for stack, count in stacks.items() for block in range(count)]
    assert sorted(rows.sums) == sorted(expected)
    assert set(rows.counts.values()) == {2}  # steps 0 and 1 of 3, the conditional branch, one section
    assert rows.grid == (height, width)
    assert {len(values) for values in rows.sums.values()} == {frames * height * width}
    assert rows.is_complete


def test_weights_of_a_row_add_up_to_one(built):
    pipe, call = built("hunyuan_t2v")
    with observe_token_rows(pipe, steps=StepWindow.all()) as rows:
        generate(pipe, call)
    for place in rows.sums:
        assert rows.mean(place).sum(1) == pytest.approx(1.0, abs=1e-4)


def test_both_transformers_of_wan22_are_seen(built):
    pipe, call = built("wan22_i2v")
    with observe_token_rows(pipe, steps=StepWindow.all()) as rows:
        generate(pipe, call)
    assert {place.host for place in rows.sums} == {"transformer", "transformer_2"}


def test_a_window_is_over_after_its_last_step_and_not_before(built):
    pipe, call = built("wan_t2v")
    seen = []
    with observe_token_rows(pipe, steps=StepWindow.fraction(0.0, 0.6)) as rows:
        generate(pipe, call, callback_on_step_end=lambda *_: seen.append(rows.is_complete) or {})
    assert seen == [False, True, True]


def test_observing_changes_nothing_and_leaves_no_hook(built):
    pipe, call = built("framepack_v1")
    expected = generate(pipe, call)
    with observe_token_rows(pipe, steps=StepWindow.all()):
        assert torch.equal(generate(pipe, call), expected)
    assert not hooks_on(pipe.transformer)


def test_nan_in_the_activations_is_one_sentence(built):
    pipe, call = built("wan_t2v")
    weight = pipe.transformer.blocks[1].attn1.to_q.weight
    before = weight.detach().clone()
    try:
        weight.data.fill_(math.nan)
        with pytest.raises(ObservationError, match=r"NaN or infinity in attention self of block 1 .* choose the dtype"):
            with observe_token_rows(pipe, steps=StepWindow.all()):
                generate(pipe, call)
    finally:
        weight.data.copy_(before)
    assert not hooks_on(pipe.transformer)
