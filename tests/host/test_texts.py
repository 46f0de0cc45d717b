"""Which text belongs to which pass: by place in memory, else by value, and never by a guess."""

from __future__ import annotations

import pytest
import torch

from alignvid.host.texts import Texts, is_equal, parts_of

ONE, OTHER = torch.ones(1, 2), torch.zeros(1, 2)


def test_a_text_is_known_by_its_place_and_elsewhere_by_its_value():
    texts = Texts()
    texts.learn(ONE, "cond")
    texts.learn(OTHER, "uncond")
    assert [texts.branch_of(text) for text in (ONE, OTHER)] == ["cond", "uncond"]
    assert [texts.branch_of(text.clone()) for text in (ONE, OTHER)] == ["cond", "uncond"]
    assert texts.branch_of(ONE + 1) is None
    assert texts.branch_of(None) is None and texts.branch_of("a prompt") is None


def test_a_text_of_several_passes_distinguishes_none():
    texts = Texts()
    texts.learn(ONE, "cond")
    assert not texts.is_shared(ONE)
    texts.learn(ONE, "uncond")
    assert texts.is_shared(ONE) and texts.branch_of(ONE) is None
    assert not texts.is_shared(OTHER)


def test_a_text_whose_value_is_that_of_two_passes_is_of_none():
    texts = Texts()
    texts.learn(ONE, "cond")
    texts.learn(ONE.clone(), "uncond")
    assert texts.branch_of(ONE) == "cond"  # by its place
    assert texts.branch_of(ONE.clone()) is None


@pytest.mark.parametrize(
    ("one", "other", "are_equal"),
    [
        (ONE, ONE.clone(), True),
        (ONE, OTHER, False),
        (ONE, ONE.double(), False),
        (ONE, torch.ones(1, 3), False),
        ([ONE, OTHER], (ONE.clone(), OTHER.clone()), True),
        ([ONE, OTHER], [ONE], False),
        ([ONE], [OTHER], False),
        ([ONE[0]], ONE, False),
        (ONE, [ONE[0]], False),
        ([ONE], None, False),
        ([], [], True),
        ("text", "text", False),
    ],
    ids=[
        "value",
        "other value",
        "dtype",
        "shape",
        "list and tuple",
        "length",
        "part",
        "list and tensor",
        "tensor and list",
        "list and nothing",
        "nothing",
        "no tensors",
    ],
)
def test_texts_are_equal_bit_by_bit_and_in_form(one, other, are_equal):
    assert is_equal(one, other) is are_equal


def test_a_batch_is_cut_into_equal_parts_or_not_at_all():
    batch = torch.arange(6).view(6, 1)
    assert [part.flatten().tolist() for part in parts_of(batch, 3)] == [[0, 1], [2, 3], [4, 5]]
    assert parts_of([ONE, OTHER], 2) == [[ONE], [OTHER]]
    assert parts_of(batch, 4) == []
    assert parts_of(None, 2) == []
