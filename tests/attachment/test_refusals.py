"""What becomes impossible while attached is an error at the next forward, not a gain that misses a part."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

import alignvid
from alignvid.errors import AttachmentError
from pipelines import generate
from registry import BUILDERS


def test_a_projection_that_is_replaced_in_the_middle_of_a_run_is_refused_at_the_next_step():
    pipe, call = BUILDERS["allegro"]()  # without key norms: the gain is on what its key projections give
    attention = pipe.transformer.transformer_blocks[1].attn2
    steps = []

    def replace(_: Any, step: int, *__: Any) -> dict[str, Any]:
        steps.append(step)
        attention.to_k = nn.Sequential(attention.to_k)  # as loading a LoRA does
        return {}

    with (
        alignvid.attach(pipe) as attachment,
        pytest.raises(AttachmentError, match=r"to_k of block 1 .* another module .* detach and attach again"),
    ):
        generate(pipe, call, num_inference_steps=3, callback_on_step_end=replace)
    assert steps == [0]
    assert attachment.acted_count > 0


def test_a_norm_that_is_replaced_between_two_runs_is_refused_at_the_next():
    pipe, call = BUILDERS["wan_t2v"]()
    attention = pipe.transformer.blocks[0].attn2
    with alignvid.attach(pipe, "generic"):
        generate(pipe, call)
        attention.norm_k = nn.RMSNorm(attention.norm_k.weight.shape[0])
        with pytest.raises(AttachmentError, match=r"norm_k of block 0 .* another module .* detach and attach again"):
            generate(pipe, call)
