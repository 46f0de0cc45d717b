import pytest

import model_folders
from alignvid.errors import InputError
from alignvid.generate.prompts import check_prompt, unknown_words_note, unread_tokens_note


@pytest.mark.parametrize(
    "prompt", ["a cat", "un chat", "猫がサングラスをかける", "кот 🕶️", "2", "<script>alert(1)</script>"]
)
def test_a_prompt_in_any_language_is_accepted(prompt):
    check_prompt(prompt)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "is empty; say in words"),
        (" \n\t", "is empty"),
        ("🐱🕶️", "has no words, only signs"),
        ("...", "has no words"),
        ("word " * 10_000, "has 10,000 words and .* shorten it"),
        ("字" * 9_000, "9,000 characters"),
        ("a cat \udcff", r"not valid UTF-8 text: '\\udcff' at character 6"),
    ],
    ids=["empty", "blank", "emoji", "dots", "10,000 words", "9,000 signs", "not UTF-8"],
)
def test_a_prompt_that_no_model_can_follow_is_refused(prompt, message):
    with pytest.raises(InputError, match=message):
        check_prompt(prompt)


def test_a_prompt_longer_than_the_model_reads_is_counted():
    note = unread_tokens_note("the cat " * 10, model_folders.build_tokenizer(), limit=16)
    assert note is not None
    assert "has 20 tokens and the model reads the first 16; the last 4" in note


def test_a_prompt_that_is_read_whole_needs_no_note():
    assert unread_tokens_note("the cat", model_folders.build_tokenizer(), limit=16) is None


def test_unknown_words_are_named():
    assert "does not know 'cat', 'sunglasses'" in (unknown_words_note(["cat", "sunglasses"]) or "")
    assert unknown_words_note([]) is None
