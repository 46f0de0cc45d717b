"""Which tokens a word is made of, whatever the tokenizer and the template."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from alignvid.models.reading.words import has_word, nearest_words, occurrences, own_tokens, prompt_runs
from tiny_qwen import build_tokenizer

QWEN = "<|im_start|>system\nDescribe the red cat.<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
LLAMA = (
    "<|start_header_id|>system<|end_header_id|>\n\nDescribe the red cat.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
)


def pieces() -> PreTrainedTokenizerFast:
    """Of whole words as SentencePiece marks them, as T5's."""
    words = ["<pad>", "</s>", "<unk>", *(f"▁{word}" for word in ("a", "red", "cat", "sun"))]
    words += ["glasses", "▁", *"abcdefghijklmnopqrstuvwxyzé,'"]
    tokenizer = Tokenizer(models.Unigram([(word, -1.0 - len(word) * 0.0) for word in words], unk_id=2))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def llama() -> PreTrainedTokenizerFast:
    tokenizer = build_tokenizer()
    headers = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": headers})
    return tokenizer


def said(tokenizer, text: str, word: str) -> list[str]:
    """What the tokens that were found say."""
    ids = tokenizer(text).input_ids
    runs = prompt_runs(tokenizer, ids, [False] * len(ids))
    return [tokenizer.decode([ids[token] for token in tokens]).strip() for tokens in occurrences(runs, word)]


@pytest.mark.parametrize("make", [build_tokenizer, pieces], ids=["bytes", "pieces"])
@pytest.mark.parametrize(
    ("prompt", "word", "expected"),
    [
        ("a red cat, a cat", "cat", ["cat", "cat"]),
        ("a red cat", "red cat", ["red cat"]),
        ("a cat sunglasses", "sunglasses", ["sunglasses"]),
        ("a catfish", "cat", []),
        ("a café", "café", ["café"]),
        ("a cat", "sunglasses", []),
    ],
)
def test_a_word_is_its_tokens_wherever_the_prompt_has_it(make, prompt, word, expected):
    assert said(make(), prompt, word) == expected


def test_case_does_not_matter_and_spaces_of_a_phrase_may_be_several():
    assert said(build_tokenizer(), "A Red  Cat", "red cat") == ["Red  Cat"]


def test_a_word_within_unspaced_script_is_found():
    assert said(build_tokenizer(), "猫戴上墨镜", "墨镜") == ["墨镜"]


@pytest.mark.parametrize(("make", "template"), [(build_tokenizer, QWEN), (llama, LLAMA)], ids=["qwen", "llama"])
def test_of_a_chat_only_what_the_user_says_is_the_prompt(make, template):
    tokenizer = make()
    ids = tokenizer(template.format("the red dog")).input_ids
    runs = prompt_runs(tokenizer, ids, [False] * len(ids))
    assert occurrences(runs, "cat") == []
    assert len(occurrences(runs, "red")) == 1
    assert tokenizer.decode([ids[token] for token in own_tokens(runs)]).strip() == "the red dog"


def test_instructions_before_the_prompt_are_none_of_its_words():
    assert said(build_tokenizer(), "Paint a cat. <Prompt Start> a red cat", "cat") == ["cat"]


def test_the_nearest_words_are_those_spelt_most_alike():
    tokenizer = build_tokenizer()
    ids = tokenizer("a cat puts on sunglasses").input_ids
    runs = prompt_runs(tokenizer, ids, [False] * len(ids))
    assert nearest_words(runs, "sunglases") == ["sunglasses"]
    assert nearest_words(runs, "zebra") == ["a", "cat", "puts"]


def test_a_word_is_looked_for_in_a_text_as_in_tokens():
    assert has_word("The Cat's hat", "cat's")
    assert not has_word("concatenate", "cat")
