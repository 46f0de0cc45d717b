"""The Observe nodes on ComfyUI's own Wan."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

import comfyui_core as core
from comfyui_aligned import aligned
from comfyui_pack import pack

nodes, watch = pack("nodes"), pack("watch")
STEPS, BLOCKS = 4, 4


@pytest.fixture(scope="module")
def model() -> Any:
    return core.wan()


def heard(model: Any) -> Any:
    core.sampled(model, steps=STEPS)
    return watch.heard_by(watch.watch_of(model))


def test_a_watch_changes_nothing_and_hears_every_softmax(model: Any) -> None:
    plain = core.sampled(model, steps=STEPS)
    observed = nodes.AlignVidObserve.execute(model).result[0]
    assert torch.equal(core.sampled(observed, steps=STEPS), plain)
    rows = heard(observed)
    assert len(rows) == STEPS * BLOCKS * 3  # self, and cross to picture and to text
    assert {(row.site, row.words is not None) for row in rows} == {("self", False), ("cross", False), ("cross", True)}
    assert all(0.0 < row.entropy <= 1.0 for row in rows)


def test_in_one_batch_with_the_negative_prompt_the_positive_one_is_heard(model: Any) -> None:
    observed = watch.watched(model)
    core.sampled(observed, steps=STEPS, cfg=3.0)
    assert len(watch.heard_by(watch.watch_of(observed))) == STEPS * BLOCKS * 3


def test_a_gain_on_the_words_lowers_their_entropy_where_it_acts(model: Any) -> None:
    before = heard(watch.watched(model))
    clone = aligned(watch.watched(model), blocks="0,2", streams="cross.text=2")
    after = heard(clone)
    first = [(one, other) for one, other in zip(before, after, strict=True) if one.step == 0 and one.block == 0]
    for one, other in first:
        assert (one.stack, one.block, one.site) == (other.stack, other.block, other.site)
        is_scaled = one.words is not None
        assert other.entropy < one.entropy - 1e-4 if is_scaled else other.entropy == pytest.approx(one.entropy)


def test_the_nodes_give_a_picture_and_rows(model: Any) -> None:
    observed = nodes.AlignVidObserve.execute(model).result[0]
    with pytest.raises(ValueError, match="connect `after`"):
        nodes.AlignVidObserved.execute(observed, None)
    core.sampled(observed, steps=STEPS)
    passed, picture, data = nodes.AlignVidObserved.execute(observed, "latent").result
    assert passed == "latent" and picture.ndim == 4
    assert len(json.loads(data)) == STEPS * BLOCKS * 3
