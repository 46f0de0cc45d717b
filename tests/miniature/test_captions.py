"""Captions: several wordings, one meaning, no word outside the vocabulary."""

from __future__ import annotations

import re

import numpy as np
import pytest

from alignvid.miniature.architecture import UNKNOWN, build_tokenizer
from alignvid.miniature.prompts import (
    as_typed,
    clean_caption,
    description,
    evaluation_prompt,
    long_caption,
    short_caption,
    unknown_words,
    words,
)
from alignvid.miniature.scenes import sample_scene
from alignvid.miniature.training.train_towers import CAPTION_TOKENS


def captions() -> list[str]:
    rng = np.random.default_rng(0)
    scenes = [sample_scene(seed) for seed in range(300)]
    asked = [write(scene, rng).text for scene in scenes for write in (short_caption, long_caption)]
    return asked + [description(scene, rng) for scene in scenes]


def test_an_evaluation_spells_as_people_do_and_is_read_as_in_training() -> None:
    for seed in range(200):
        scene, rng = sample_scene(seed), np.random.default_rng(seed)
        for asked in (short_caption(scene, rng), long_caption(scene, rng)):
            typed = as_typed(asked.text)
            assert words(typed) == words(asked.text) and not re.search(r"\s[.,:!']", typed), typed


def test_the_grammar_stays_within_its_vocabulary() -> None:
    assert not [caption for caption in captions() if unknown_words(caption)]


def test_unknown_words_are_named_once_in_order() -> None:
    assert unknown_words("The cat meets a red CAT with a hat") == ["cat", "meets", "hat"]


def test_other_spellings_are_known() -> None:
    assert unknown_words("change the color of the red circle at the center, make it bigger") == []


@pytest.mark.parametrize(
    "prompt", ["Make the red circle bigger.", "the RED disc,then move it to the center!", "🙂 red"]
)
def test_tokenizer_and_unknown_words_agree(prompt: str) -> None:
    tokens = build_tokenizer().tokenize(prompt)
    assert len(tokens) == len(words(prompt)) + 0
    assert (UNKNOWN in tokens) == bool(unknown_words(prompt))


def test_the_longest_caption_fits_in_training() -> None:
    assert max(len(ids) for ids in build_tokenizer()(captions()).input_ids) <= CAPTION_TOKENS


def test_the_clean_caption_is_the_plainest() -> None:
    assert clean_caption(sample_scene(0)) == "turn the cyan square yellow"


def test_evaluation_prompts_are_fixed_by_seed() -> None:
    scene = sample_scene(3)
    assert evaluation_prompt(scene, 5) == evaluation_prompt(scene, 5)
    assert len({evaluation_prompt(scene, seed) for seed in range(20)}) > 10
