"""A kernel that takes a mask and does nothing with it is found out by some of its rows."""

from __future__ import annotations

import pytest
import torch

from alignvid.attachment.effects.masks import check_mask, softmax_of
from alignvid.errors import AttachmentError
from alignvid.models.attention_call import AttentionCall

ROWS = torch.arange(40)


def asked(bias: float, *, query_heads: int = 4) -> AttentionCall:
    torch.manual_seed(0)
    query, key = torch.randn(2, 40, query_heads, 8), torch.randn(2, 12, 2, 8)
    mask = torch.zeros(1, 1, 40, 12)
    mask[..., :3] = bias
    return AttentionCall(query, key, torch.randn(2, 12, 2, 8), mask, 8**-0.5)


def test_a_kernel_that_heeds_its_mask_passes_also_if_it_rounds() -> None:
    biased = asked(1.0)
    output = softmax_of(biased, ROWS)
    check_mask(asked(0.0), biased, output)
    check_mask(asked(0.0), biased, output + 0.01 * torch.randn_like(output))


@pytest.mark.parametrize("bias", [1.0, -1.0, 0.3])
def test_one_that_ignores_it_is_refused_in_one_sentence(bias: float) -> None:
    with pytest.raises(AttachmentError, match="takes a mask and does nothing with it") as caught:
        check_mask(asked(0.0), asked(bias), softmax_of(asked(0.0), ROWS))
    assert "\n" not in str(caught.value)


def test_a_change_that_is_too_small_to_be_seen_accuses_nobody() -> None:
    check_mask(asked(0.0), asked(1e-4), softmax_of(asked(0.0), ROWS))


def test_a_mask_of_yes_and_no_is_read_too() -> None:
    plain = asked(0.0)._replace(mask=torch.ones(1, 1, 1, 12, dtype=torch.bool))
    hidden = plain._replace(mask=torch.arange(12)[None, None, None] > 2)
    check_mask(plain, hidden, softmax_of(hidden, ROWS))
    with pytest.raises(AttachmentError):
        check_mask(plain, hidden, softmax_of(plain, ROWS))
