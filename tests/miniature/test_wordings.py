"""Forms to ask in: enough of them, held-out ones apart, and no word in one that training does not know."""

from __future__ import annotations

import re

import numpy as np
import pytest

from alignvid.miniature.prompts import words
from alignvid.miniature.scenes import EDIT_KINDS, sample_scene
from alignvid.miniature.wordings import FORM_SETS, FormSet, ask, ask_as, filler_words, forms, ways


def words_of(form_set: FormSet) -> set[str]:
    texts = [re.sub(r"\{\w+\}", " ", form) for found in forms(form_set).values() for form in found]
    return {word for text in (*texts, *filler_words()) for word in words(text)}


def test_a_pattern_stands_for_every_way_through() -> None:
    assert ways("(take|throw) the {old} [far] away") == [
        "take the {old} away",
        "take the {old} far away",
        "throw the {old} away",
        "throw the {old} far away",
    ]


def test_there_are_three_hundred_forms_to_train_on() -> None:
    counts = {kind: len(found) for kind, found in forms("trained").items()}
    assert sum(counts.values()) >= 300 and min(counts.values()) >= 50


@pytest.mark.parametrize("form_set", ["held_out", "typed"])
def test_no_form_is_both_trained_and_reported_apart(form_set: FormSet) -> None:
    for kind in EDIT_KINDS:
        assert not set(forms(form_set)[kind]) & set(forms("trained")[kind])


def test_held_out_forms_hold_known_words_and_typed_ones_unknown_words() -> None:
    assert words_of("held_out") <= words_of("trained")
    assert len(words_of("typed") - words_of("trained")) >= 30


@pytest.mark.parametrize("form_set", FORM_SETS)
def test_no_slot_stays_open(form_set: FormSet) -> None:
    rng = np.random.default_rng(0)
    asked = [ask(sample_scene(seed), rng, form_set, open_share=0.1).text for seed in range(200)]
    assert not [text for text in asked if re.search(r"[{}()|\[\]]|  ", text)]


def test_an_open_addition_says_no_place() -> None:
    scene = sample_scene(0, edit_kind="add")
    asked = [ask_as(scene, "add a {new} {at}", np.random.default_rng(seed), open_share=1.0) for seed in range(20)]
    assert not any(each.says_place for each in asked)
    assert all("the" not in each.text.split() or "in the corner" in each.text for each in asked)


def test_a_size_is_said_of_every_small_shape_to_come() -> None:
    """Since additions are large unless a size is said."""
    rng = np.random.default_rng(0)
    for seed in range(100):
        scene = sample_scene(seed, edit_kind="add")
        asked = ask(scene, rng, "trained", open_share=0.0)
        assert scene.edit.result is not None
        assert asked.says_size or scene.edit.result.size == "large"
